//! Go toolchains, as the machine's own Go downloads them: from the module proxy, checked by Go's
//! checksum database, kept in its module cache.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::ui::Step;

/// GOROOT of a version, by a link in `links`: downloaded on first use.
pub fn get(links: &Path, version: &str) -> Result<PathBuf> {
    let step = Step::start(format!("the toolchain of Go {version}"));
    let root = download(version)?;
    // Go 1.19 does not work from inside the module cache.
    let link = links.join(version);
    std::fs::create_dir_all(links)
        .with_context(|| format!("{} can not be made", links.display()))?;
    match std::fs::remove_file(&link) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("{} is in the way", link.display()));
        }
        _ => {}
    }
    std::os::unix::fs::symlink(&root, &link)
        .with_context(|| format!("{} can not be made", link.display()))?;
    step.done();
    Ok(link)
}

/// Where the machine's Go keeps a version.
fn download(version: &str) -> Result<PathBuf> {
    let output = Command::new("go")
        .args(["env", "GOROOT"])
        // Where no go.mod asks for another version.
        .current_dir(std::env::temp_dir())
        .env("GOTOOLCHAIN", format!("go{version}"))
        .env_remove("GOROOT")
        .output()
        .context("go could not be started: is it installed? (https://go.dev/dl)")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "go could not download Go {version}: {}",
        said.lines().last().unwrap_or("it does not say why")
    );
    let root = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    ensure!(
        root.join("bin/go").is_file(),
        "go says that Go {version} lies in {}, where it does not",
        root.display()
    );
    Ok(root)
}
