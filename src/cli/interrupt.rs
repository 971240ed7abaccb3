//! Ctrl-C: the first asks the work to stop at a good place, the second ends the process.

use crate::base::Cancel;

/// Raises `cancel` at the first Ctrl-C or SIGTERM and ends the process at the second.
///
/// # Errors
/// The operating system refuses the handler.
pub fn handle(cancel: &Cancel) -> anyhow::Result<()> {
    let cancel = cancel.clone();
    ctrlc::set_handler(move || {
        if cancel.is_cancelled() {
            std::process::exit(130);
        }
        super::say("\nstopping after the batch in hand; once more to stop at once\n");
        cancel.cancel();
    })?;
    Ok(())
}
