//! Names of system calls and errors (crate `syscalls`).

use syscalls::{Errno, Sysno};

/// A system call by its x86-64 number: `read`, or `syscall 777`.
pub fn syscall(nr: u32) -> String {
    Sysno::new(nr as usize).map_or_else(|| format!("syscall {nr}"), |name| name.name().to_owned())
}

/// An error as the kernel returns it, without its sign: `EAGAIN`. The numbers above 511 never reach
/// a program: a signal came, and the call is started again or answers EINTR (Linux
/// `include/linux/errno.h`).
pub fn errno(number: u32) -> String {
    match number {
        512..=516 => "interrupted".to_owned(),
        _ => i32::try_from(number)
            .ok()
            .and_then(|number| Errno::new(number).name())
            .map_or_else(|| format!("error {number}"), str::to_owned),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_agree_with_our_own_table() {
        for row in crate::model::syscall::SYSCALLS {
            assert_eq!(syscall(row.nr), row.name);
        }
        assert_eq!(syscall(9999), "syscall 9999");
        assert_eq!(
            (errno(11), errno(512)),
            ("EAGAIN".into(), "interrupted".into())
        );
        assert_eq!(errno(4000), "error 4000");
    }
}
