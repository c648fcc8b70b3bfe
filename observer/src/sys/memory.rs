//! Another process's memory by `process_vm_readv`: it neither stops nor changes the target.

use crate::model::Pid;
use crate::model::memory::{Memory, ReadError, ReadRequest};

/// The kernel's limit on vectors per call (Linux `include/uapi/linux/uio.h`, UIO_MAXIOV).
const MAX_VECTORS: usize = 1024;

/// Memory of a live process.
#[derive(Debug, Clone, Copy)]
pub struct ProcessMemory {
    pid: Pid,
}

impl ProcessMemory {
    /// Memory of `pid`. Nothing is read yet.
    pub fn new(pid: Pid) -> Self {
        Self { pid }
    }

    fn readv(self, local: &[libc::iovec], remote: &[libc::iovec]) -> Result<usize, ReadError> {
        // SAFETY: `local` describes live, exclusively borrowed buffers (built from `&mut [u8]` by
        // the callers below); `remote` is only read by the kernel, which checks every address.
        let n = unsafe {
            libc::process_vm_readv(
                self.pid.0 as libc::pid_t,
                local.as_ptr(),
                local.len() as libc::c_ulong,
                remote.as_ptr(),
                remote.len() as libc::c_ulong,
                0,
            )
        };
        if n >= 0 {
            return Ok(n as usize);
        }
        let first = remote.first().map_or(0, |v| v.iov_base as u64);
        Err(match std::io::Error::last_os_error().raw_os_error() {
            Some(libc::ESRCH) => ReadError::Gone,
            Some(libc::EPERM) => ReadError::Denied,
            _ => ReadError::Unmapped(first),
        })
    }
}

impl Memory for ProcessMemory {
    fn read(&self, addr: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        let local = libc::iovec {
            iov_base: buf.as_mut_ptr().cast(),
            iov_len: buf.len(),
        };
        let remote = libc::iovec {
            iov_base: addr as *mut _,
            iov_len: buf.len(),
        };
        let n = self.readv(&[local], &[remote])?;
        if n == buf.len() {
            Ok(())
        } else {
            Err(ReadError::Unmapped(addr + n as u64))
        }
    }

    fn read_batch(&self, requests: &mut [ReadRequest<'_>]) -> Result<(), ReadError> {
        let mut next = 0;
        let mut local = Vec::with_capacity(requests.len().min(MAX_VECTORS));
        let mut remote = Vec::with_capacity(requests.len().min(MAX_VECTORS));
        while next < requests.len() {
            local.clear();
            remote.clear();
            let end = requests.len().min(next + MAX_VECTORS);
            for request in &mut requests[next..end] {
                request.ok = false;
                let len = request.buf.len();
                local.push(libc::iovec {
                    iov_base: request.buf.as_mut_ptr().cast(),
                    iov_len: len,
                });
                remote.push(libc::iovec {
                    iov_base: request.addr as *mut _,
                    iov_len: len,
                });
            }
            let mut read = match self.readv(&local, &remote) {
                Ok(n) => n,
                Err(ReadError::Unmapped(_)) => 0,
                Err(error) => return Err(error),
            };
            // The kernel stops at the first vector that it can not read: those before it are whole.
            let mut at = next;
            while at < end && read >= requests[at].buf.len() {
                read -= requests[at].buf.len();
                requests[at].ok = true;
                at += 1;
            }
            next = if at < end { at + 1 } else { end };
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_reads_what_is_readable_and_says_what_is_not() {
        let memory = ProcessMemory::new(Pid(std::process::id()));
        let source = [7_u8; 16];
        let addr = source.as_ptr() as u64;
        let (mut a, mut b, mut c) = ([0_u8; 8], [0_u8; 8], [0_u8; 8]);
        let mut requests = [
            ReadRequest {
                addr,
                buf: &mut a,
                ok: false,
            },
            ReadRequest {
                addr: 16,
                buf: &mut b,
                ok: true,
            },
            ReadRequest {
                addr: addr + 8,
                buf: &mut c,
                ok: false,
            },
        ];
        memory.read_batch(&mut requests).unwrap();
        assert_eq!(requests.map(|r| r.ok), [true, false, true]);
        assert_eq!((a, c), ([7; 8], [7; 8]));
    }

    #[test]
    fn a_process_that_is_gone_is_told_apart_from_a_bad_address() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        let error = ProcessMemory::new(Pid(child.id()))
            .read_u64(0x1000)
            .unwrap_err();
        assert_eq!(error, ReadError::Gone);
    }
}
