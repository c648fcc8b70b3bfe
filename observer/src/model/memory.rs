//! The seam to another process's memory, so that runtime readers can be tested on made-up bytes.

/// Reading failed: the address is not mapped, or the process is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// Nothing readable at that address.
    #[error("address {0:#x} is not readable")]
    Unmapped(u64),
    /// The process has exited.
    #[error("the process has exited")]
    Gone,
    /// The observer may not read this process.
    #[error("no permission to read the process's memory")]
    Denied,
}

/// One read of a batch: fill `buf` from `addr`. `ok` tells whether it was read whole.
#[derive(Debug)]
pub struct ReadRequest<'a> {
    /// Address in the target.
    pub addr: u64,
    /// Where the bytes go.
    pub buf: &'a mut [u8],
    /// Set by the reader.
    pub ok: bool,
}

/// Read-only access to a process's memory. Never stops the process: what is read may be torn.
pub trait Memory {
    /// Fills `buf` from `addr`, wholly or not at all.
    ///
    /// # Errors
    /// When any part of the range can not be read.
    fn read(&self, addr: u64, buf: &mut [u8]) -> Result<(), ReadError>;

    /// Many reads, in as few system calls as possible. Each request says whether it worked.
    ///
    /// # Errors
    /// When the process is gone or may not be read at all.
    fn read_batch(&self, requests: &mut [ReadRequest<'_>]) -> Result<(), ReadError> {
        for request in requests {
            request.ok = match self.read(request.addr, request.buf) {
                Ok(()) => true,
                Err(ReadError::Unmapped(_)) => false,
                Err(error) => return Err(error),
            };
        }
        Ok(())
    }

    /// A little-endian u64.
    ///
    /// # Errors
    /// As [`Memory::read`].
    fn read_u64(&self, addr: u64) -> Result<u64, ReadError> {
        let mut bytes = [0; 8];
        self.read(addr, &mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// A little-endian u32.
    ///
    /// # Errors
    /// As [`Memory::read`].
    fn read_u32(&self, addr: u64) -> Result<u32, ReadError> {
        let mut bytes = [0; 4];
        self.read(addr, &mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }
}
