//! A mapped file that is cut short, or whose disk vanishes, while it is in use.
//!
//! Stored activations and models are read through memory maps. Sizes are looked at before rows are read, but a file
//! can still go between the look and the reading, and then the system sends the process SIGBUS, which ends it without
//! a word. Here it ends with an error that names the file.

use std::ffi::{c_int, c_void};
use std::ptr;

/// What a process ends with that failed through no fault of its input.
const FAILED: c_int = 1;
/// The longest line of the list of maps that is looked at: a path of the system's largest size, and what is before it.
const LINE: usize = 4096 + 128;

/// Lets a fault in a mapped file end the process with an error in place of a bare signal.
pub fn handle() {
    let handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) = tell;
    // SAFETY: the structure is plain data for which zeros are valid, and the handler calls only what is safe in one.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as usize;
        // On the thread's own stack: the alternative one is made for overflows and hardly larger than the signal's frame.
        action.sa_flags = libc::SA_SIGINFO | libc::SA_RESETHAND;
        libc::sigemptyset(&mut action.sa_mask);
        libc::sigaction(libc::SIGBUS, &action, ptr::null_mut());
    }
}

/// Names the file that is mapped where the fault is, and ends the process. Nothing here allocates or locks.
extern "C" fn tell(_signal: c_int, info: *mut libc::siginfo_t, _context: *mut c_void) {
    // SAFETY: the system gives a handler with `SA_SIGINFO` a valid structure, which has an address for this signal.
    let (code, address) = unsafe { ((*info).si_code, (*info).si_addr() as usize) };
    if code != libc::BUS_ADRERR {
        // Not a file's doing; the signal comes again and ends the process, as `SA_RESETHAND` says.
        return;
    }
    write(b"\nerror: a file was cut short while it was in use, or its disk is gone: `");
    write_path(address);
    write(b"`\nhint: what was stored besides is good; run the same command again, and what is missing is made again\n");
    // SAFETY: it is made for signal handlers.
    unsafe { libc::_exit(FAILED) }
}

fn write(bytes: &[u8]) {
    // SAFETY: the pointer and length are those of a slice.
    unsafe { libc::write(libc::STDERR_FILENO, bytes.as_ptr().cast(), bytes.len()) };
}

/// Writes the path of the file that is mapped at an address.
fn write_path(address: usize) {
    // SAFETY: the path ends with a zero byte.
    let list = unsafe { libc::open(c"/proc/self/maps".as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC) };
    let (mut line, mut length) = ([0u8; LINE], 0);
    let mut part = [0u8; 1024];
    loop {
        // SAFETY: the pointer and length are those of the array.
        let read = unsafe { libc::read(list, part.as_mut_ptr().cast(), part.len()) };
        let Some(read) = usize::try_from(read).ok().filter(|read| *read > 0) else { return };
        for &byte in &part[..read.min(1024)] {
            if byte != b'\n' {
                if length < LINE {
                    line[length] = byte;
                    length += 1;
                }
                continue;
            }
            if let Some(path) = path_of(&line[..length], address) {
                return write(path);
            }
            length = 0;
        }
    }
}

/// The path in a line `begin-end rights offset device inode path` of the list of maps, if the address is in that map.
fn path_of(line: &[u8], address: usize) -> Option<&[u8]> {
    let mut number = 0usize;
    let mut begin = None;
    for &byte in line {
        match (byte as char).to_digit(16) {
            Some(digit) => number = number << 4 | digit as usize,
            None if byte == b'-' => begin = Some(std::mem::take(&mut number)),
            None => break,
        }
    }
    if !(begin?..number).contains(&address) {
        return None;
    }
    let slash = line.iter().position(|byte| *byte == b'/')?;
    line.get(slash..)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_list_of_maps_is_read() {
        let line = b"7f10-7f30 r--s 00000000 08:01 42                 /cache/a b.safetensors";
        assert_eq!(path_of(line, 0x7f10), Some(&b"/cache/a b.safetensors"[..]));
        assert_eq!(path_of(line, 0x7f30), None);
        assert_eq!(path_of(b"7f10-7f30 rw-p 00000000 00:00 0", 0x7f20), None);
        assert_eq!(path_of(b"", 0), None);
    }

    /// Says that this process is the one that shall fail.
    const CHILD: &str = "CAFT_TEST_FAULT";

    #[test]
    fn a_file_that_is_cut_short_under_its_map_ends_the_process_with_an_error() {
        let Some(path) = std::env::var_os(CHILD) else {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("shard.safetensors");
            std::fs::write(&path, vec![1; 1 << 16]).unwrap();
            let name = "a_file_that_is_cut_short_under_its_map_ends_the_process_with_an_error";
            let mut child = std::process::Command::new(std::env::current_exe().unwrap());
            let ended = child.args([name, "--nocapture"]).env(CHILD, &path).output().unwrap();
            let said = String::from_utf8_lossy(&ended.stderr).into_owned();
            assert_eq!(ended.status.code(), Some(FAILED), "{said}");
            assert!(said.contains(&format!("or its disk is gone: `{}`", path.display())), "{said}");
            return;
        };
        handle();
        let file = std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
        // SAFETY: this is what goes wrong where a file changes under its map.
        let map = unsafe { memmap2::Mmap::map(&file) }.unwrap();
        file.set_len(0).unwrap();
        assert_eq!(std::hint::black_box(map[1 << 15]), 0, "this is never reached");
    }
}
