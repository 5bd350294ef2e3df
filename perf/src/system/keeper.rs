//! What is made for a system is undone by a shell beside us, whatever becomes of us: it learns how before
//! the thing is made, and begins when its standard input closes, by [`Drop`] or by our death, even of
//! SIGKILL.

use anyhow::{Context, Result};
use std::{
    io::Write,
    os::unix::process::CommandExt,
    process::{Child, ChildStdin, Command, Stdio},
};

/// Reads until we end, then does what it read, the last line first. Deaf to what ends us.
const SHELL: &str = r#"
trap '' INT TERM HUP QUIT
undo=
while IFS= read -r line; do
    undo="$line
$undo"
done
eval "$undo"
"#;

#[derive(Debug)]
pub(super) struct Keeper {
    shell: Child,
    /// Closed first.
    orders: Option<ChildStdin>,
}

impl Keeper {
    pub(super) fn start() -> Result<Self> {
        let mut shell = Command::new("sh")
            .args(["-c", SHELL])
            .current_dir("/")
            // Ctrl-C at the terminal is for us.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("sh")?;
        let orders = shell.stdin.take();
        Ok(Keeper { shell, orders })
    }

    /// At the end runs `command`, one line of shell, before all that were given earlier. It should not mind
    /// when there is nothing to undo.
    pub(super) fn finally(&mut self, command: &str) -> Result<()> {
        debug_assert!(!command.contains('\n'), "{command}");
        let orders = self.orders.as_mut().context("the keeper has ended")?;
        writeln!(orders, "{command}").context("the shell that cleans up is gone")
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.orders.take());
        let _ = self.shell.wait();
    }
}

/// `text` as one word of a shell's line.
pub(super) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn what_was_last_made_is_first_undone() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("it's here");
        let name = quoted(file.to_str().unwrap());
        let mut keeper = Keeper::start().unwrap();
        for word in ["one", "two", "three"] {
            keeper.finally(&format!("echo {word} >> {name}; false")).unwrap();
        }
        assert!(!file.exists());
        drop(keeper);
        assert_eq!(fs::read_to_string(file).unwrap(), "three\ntwo\none\n");
    }
}
