//! The program's own code, where it waits inside of a library.

use crate::export::dto::Frame;

/// Of a stack whose nearest application frame is a library's: the nearest frame of the program's own.
pub fn caller(stack: &[Frame]) -> Option<&Frame> {
    let mut application = stack
        .iter()
        .filter(|frame| frame.kind == "user" && frame.function.is_some());
    let site = application.next()?;
    if !is_library(site.file.as_deref()?) {
        return None;
    }
    application.find(|frame| frame.file.as_deref().is_some_and(|file| !is_library(file)))
}

/// Whether a source file came from where cargo and Go keep what they downloaded (cargo's `registry/src` and
/// `git/checkouts`, Go's `pkg/mod`, with `-trimpath` `module@version`, `vendor` of both).
fn is_library(file: &str) -> bool {
    const WITHIN: [&str; 4] = ["/registry/src/", "/git/checkouts/", "/pkg/mod/", "/vendor/"];
    let is_version = |text: &str| text.starts_with(|c: char| c.is_ascii_digit());
    WITHIN.iter().any(|part| file.contains(part)) || file.split("@v").skip(1).any(is_version)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: &str, file: Option<&str>) -> Frame {
        Frame {
            function: Some("f".to_owned()),
            file: file.map(str::to_owned),
            line: Some(1),
            module: None,
            module_offset: None,
            kind: kind.to_owned(),
            address: "0x0".to_owned(),
            unknown_reason: None,
        }
    }

    #[test]
    fn a_library_is_called_by_the_nearest_own_function() {
        const HYPER: &str =
            "/root/.cargo/registry/src/index-0123456789abcdef/hyper-1.12.0/src/a.rs";
        const OWN: &str = "/src/app/src/main.rs";
        let file = |frames: &[(&str, Option<&str>)]| {
            let stack: Vec<Frame> = frames
                .iter()
                .map(|(kind, file)| frame(kind, *file))
                .collect();
            caller(&stack).and_then(|frame| frame.file.clone())
        };
        let own = Some(OWN.to_owned());
        assert_eq!(
            file(&[
                ("runtime", None),
                ("user", Some(HYPER)),
                ("user", Some(OWN))
            ]),
            own
        );
        let module = "github.com/twmb/franz-go@v1.19.5/pkg/kgo/client.go";
        assert_eq!(file(&[("user", Some(module)), ("user", Some(OWN))]), own);
        let place = "/home/ci@vm/app/src/main.rs";
        assert_eq!(file(&[("user", Some(place)), ("user", Some(OWN))]), None);
        // Its own code waits, or nobody knows whose.
        assert_eq!(
            file(&[
                ("user", Some(OWN)),
                ("user", Some(HYPER)),
                ("user", Some(OWN))
            ]),
            None
        );
        assert_eq!(file(&[("user", None), ("user", Some(OWN))]), None);
        assert_eq!(file(&[("user", Some(HYPER)), ("runtime", Some(OWN))]), None);
        assert_eq!(file(&[]), None);
    }
}
