//! Where results go: standard output, or a file that is there whole or not at all.
//!
//! A reader that closes the pipe after a part (`observer report ... | head`) has what it wanted:
//! that is no error, nothing is printed, and the exit code is what it would have been. When nobody
//! was there to take even the start, the observation was for nothing: that is an error.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Reports hold stacks, paths and addresses of the observed process: for the owner only.
const MODE: u32 = 0o600;

/// Where results go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sink {
    /// Standard output.
    Stdout,
    /// A file, or a device or pipe of that name.
    File(PathBuf),
}

/// What became of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// All of it was taken.
    Whole,
    /// The reader took a part and closed the pipe.
    ReaderLeft,
}

/// Writing failed: what, why, and what to do, on one line. The cause is told in that line, so it is
/// no `source`: it would be printed twice.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// Standard output.
    #[error("can not write to stdout: {}; {}", reason(.0), cure(.0))]
    Stdout(io::Error),
    /// A file.
    #[error("can not write {}: {}; {}", .0.display(), reason(.1), cure(.1))]
    File(PathBuf, io::Error),
}

impl Sink {
    /// `-o FILE`, or standard output. `-` is standard output too.
    pub fn new(path: Option<&Path>) -> Self {
        match path {
            None => Self::Stdout,
            Some(path) if path == Path::new("-") => Self::Stdout,
            Some(path) => Self::File(path.to_owned()),
        }
    }

    /// Finds out whether writing can work, so that nobody waits for a report that has no place to
    /// go. Leaves nothing behind.
    ///
    /// # Errors
    /// When the file can not be made there, or standard output is closed.
    pub fn check(&self) -> Result<(), SinkError> {
        let Self::File(path) = self else {
            return open_for_writing(&io::stdout()).map_err(SinkError::Stdout);
        };
        let tried = match place(path) {
            Place::Refused(error) => Err(error),
            Place::Through => OpenOptions::new().write(true).open(path).map(drop),
            Place::Replace => temporary(path).and_then(|(temp, _)| fs::remove_file(temp)),
        };
        tried.map_err(|error| SinkError::File(path.clone(), error))
    }

    /// Writes `text`.
    ///
    /// # Errors
    /// When it can not be written whole; a file is then as it was before.
    pub fn write(&self, text: &str) -> Result<Written, SinkError> {
        match self {
            Self::Stdout => open_for_writing(&io::stdout())
                .and_then(|()| write_to(&mut io::stdout().lock(), text))
                .map_err(SinkError::Stdout),
            Self::File(path) => {
                write_file(path, text).map_err(|error| SinkError::File(path.clone(), error))
            }
        }
    }
}

/// Whether a descriptor takes writes. Rust's standard output drops what is written to one that does
/// not, without an error; a closed one is open for reading by now (`sys::streams`).
fn open_for_writing(descriptor: &impl AsRawFd) -> io::Result<()> {
    // SAFETY: plain call with two integers.
    let flags = unsafe { libc::fcntl(descriptor.as_raw_fd(), libc::F_GETFL) };
    if flags == -1 || flags & libc::O_ACCMODE == libc::O_RDONLY {
        return Err(ErrorKind::NotConnected.into());
    }
    Ok(())
}

enum Place {
    /// A new file, or a plain one that a finished file replaces.
    Replace,
    /// A device, a pipe, or a link (`/dev/stdout`): replacing it would destroy it.
    Through,
    /// Not a place to write to.
    Refused(io::Error),
}

fn place(path: &Path) -> Place {
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => Place::Refused(ErrorKind::IsADirectory.into()),
        Ok(meta) if meta.is_file() => Place::Replace,
        Ok(meta) if meta.is_symlink() && leads_nowhere(path) => {
            Place::Refused(io::Error::other("it is a link to nothing that exists"))
        }
        Ok(_) => Place::Through,
        Err(error) if error.kind() == ErrorKind::NotFound => Place::Replace,
        Err(error) => Place::Refused(error),
    }
}

fn leads_nowhere(link: &Path) -> bool {
    fs::metadata(link).is_err_and(|error| error.kind() == ErrorKind::NotFound)
}

fn write_file(path: &Path, text: &str) -> io::Result<Written> {
    match place(path) {
        Place::Refused(error) => Err(error),
        Place::Through => {
            let mut file = OpenOptions::new().write(true).truncate(true).open(path)?;
            write_to(&mut file, text)
        }
        Place::Replace => {
            let (temp, mut file) = temporary(path)?;
            let written = write_to(&mut file, text)
                // Some file systems find out that they are full only now.
                .and_then(|written| file.sync_all().map(|()| written))
                .and_then(|written| fs::rename(&temp, path).map(|()| written));
            if written.is_err()
                && let Err(error) = fs::remove_file(&temp)
            {
                tracing::warn!("{} is left behind: {error}", temp.display());
            }
            written
        }
    }
}

/// A new file beside `path`, so that renaming it does not cross file systems.
fn temporary(path: &Path) -> io::Result<(PathBuf, File)> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    if path.file_name().is_none() {
        return Err(ErrorKind::InvalidFilename.into());
    }
    let mut attempt = 0;
    loop {
        let temp = directory.join(format!(".observer-{}-{attempt}.tmp", std::process::id()));
        match OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(MODE)
            .open(&temp)
        {
            Ok(file) => return Ok((temp, file)),
            Err(error) if error.kind() == ErrorKind::AlreadyExists && attempt < 100 => attempt += 1,
            // /proc takes no new files, and says "not found".
            Err(error) if error.kind() == ErrorKind::NotFound && directory.is_dir() => {
                return Err(io::Error::other(format!(
                    "no file can be made in {}",
                    directory.display()
                )));
            }
            Err(error) => return Err(error),
        }
    }
}

/// Writes all of `text`; a reader that leaves after a part of it is no error.
///
/// # Errors
/// Any other failure to write, and a reader that took nothing at all.
pub fn write_to(out: &mut impl Write, text: &str) -> io::Result<Written> {
    let mut rest = text.as_bytes();
    while !rest.is_empty() {
        match out.write(rest) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(taken) => rest = rest.get(taken..).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::BrokenPipe && rest.len() < text.len() => {
                return Ok(Written::ReaderLeft);
            }
            Err(error) => return Err(error),
        }
    }
    match out.flush() {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(Written::ReaderLeft),
        flushed => flushed.map(|()| Written::Whole),
    }
}

/// The kind in words, without Rust's "(os error 28)".
fn reason(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::StorageFull => "the disk is full".to_owned(),
        ErrorKind::BrokenPipe => "whoever was to read it has left".to_owned(),
        ErrorKind::NotConnected => "it is closed, or open for reading only".to_owned(),
        ErrorKind::QuotaExceeded => "the disk quota is used up".to_owned(),
        ErrorKind::PermissionDenied => "permission denied".to_owned(),
        ErrorKind::NotFound => "its directory does not exist".to_owned(),
        ErrorKind::NotADirectory => "a part of the path is not a directory".to_owned(),
        ErrorKind::IsADirectory => "it is a directory".to_owned(),
        ErrorKind::ReadOnlyFilesystem => "the file system is read-only".to_owned(),
        ErrorKind::InvalidFilename => "not a usable file name".to_owned(),
        _ => error.to_string(),
    }
}

fn cure(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            "free some space or choose a place on another disk"
        }
        ErrorKind::NotFound | ErrorKind::NotADirectory => {
            "make the directory or choose another path"
        }
        ErrorKind::IsADirectory => "give a file name in it",
        ErrorKind::BrokenPipe => "keep the reader running, or write to a file with -o",
        ErrorKind::NotConnected => "give the command an output that it may write to",
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            "choose a directory that you may write to"
        }
        _ => "choose another path",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn failure(path: &Path, expected: &str) {
        let sink = Sink::File(path.to_owned());
        let message = sink.write("report\n").unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
        assert!(!message.contains('\n'), "{message}");
    }

    #[test]
    fn a_file_is_for_its_owner_and_nothing_else_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("report.json");
        fs::write(&path, "old").unwrap();
        let sink = Sink::new(Some(&path));
        sink.check().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(sink.write("new\n").unwrap(), Written::Whole);
        assert_eq!(fs::read_to_string(&path).unwrap(), "new\n");
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(names(dir.path()), ["report.json"]);
    }

    #[test]
    fn a_full_device_is_one_line_with_a_cure_and_stays_a_device() {
        failure(
            Path::new("/dev/full"),
            "can not write /dev/full: the disk is full; free some",
        );
        assert!(!fs::symlink_metadata("/dev/full").unwrap().is_file());
    }

    #[test]
    fn a_directory_and_a_missing_one_are_refused_early() {
        let dir = tempfile::tempdir().unwrap();
        failure(dir.path(), "it is a directory; give a file name in it");
        let missing = dir.path().join("no/report.txt");
        failure(&missing, "its directory does not exist; make the directory");
        assert!(Sink::File(missing).check().is_err());
        assert!(Sink::File(dir.path().to_owned()).check().is_err());
        assert!(names(dir.path()).is_empty());
    }

    #[test]
    fn a_directory_that_takes_no_files_is_named_as_such() {
        failure(
            Path::new("/proc/version"),
            "can not write /proc/version: no file can be made in /proc; choose another path",
        );
        assert!(Sink::File("/proc/no-such-file".into()).check().is_err());
    }

    #[test]
    fn a_link_to_nothing_is_named_as_such_and_makes_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(dir.path().join("file"), &link).unwrap();
        assert!(Sink::File(link.clone()).check().is_err());
        failure(&link, "it is a link to nothing that exists; choose another");
        assert_eq!(names(dir.path()), ["link"]);
    }

    #[test]
    fn only_a_descriptor_that_takes_writes_is_an_output() {
        let null = |write| {
            OpenOptions::new()
                .read(true)
                .write(write)
                .open("/dev/null")
                .unwrap()
        };
        open_for_writing(&null(true)).unwrap();
        let error = SinkError::Stdout(open_for_writing(&null(false)).unwrap_err());
        assert_eq!(
            error.to_string(),
            "can not write to stdout: it is closed, or open for reading only; give the command an \
             output that it may write to"
        );
    }

    #[test]
    fn a_link_is_written_through_and_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("file"), dir.path().join("link"));
        fs::write(&file, "a much longer old text").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        Sink::File(link.clone()).write("new\n").unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "new\n");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    }

    #[test]
    fn a_reader_that_leaves_after_a_part_is_no_error() {
        let (mut reader, mut writer) = io::pipe().unwrap();
        // More than a pipe holds, so that the writer is still there when the reader leaves.
        let text = "line\n".repeat(1 << 20);
        let head = std::thread::spawn(move || io::Read::read(&mut reader, &mut [0; 100]).unwrap());
        assert_eq!(write_to(&mut writer, &text).unwrap(), Written::ReaderLeft);
        assert_eq!(head.join().unwrap(), 100);
    }

    #[test]
    fn a_reader_that_is_not_there_is_an_error() {
        let (reader, mut writer) = io::pipe().unwrap();
        drop(reader);
        let error = SinkError::Stdout(write_to(&mut writer, "report\n").unwrap_err());
        assert_eq!(
            error.to_string(),
            "can not write to stdout: whoever was to read it has left; keep the reader running, or \
             write to a file with -o"
        );
    }

    #[test]
    fn a_dash_is_standard_output() {
        assert_eq!(Sink::new(Some(Path::new("-"))), Sink::Stdout);
        assert_eq!(Sink::new(None), Sink::Stdout);
    }
}
