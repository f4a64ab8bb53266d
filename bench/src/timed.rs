//! What the run of a client costs: its time, CPU and memory, by GNU time. curl is the client of what speaks HTTP.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context, Result, bail, ensure};
use cluster::processes::{Processes, StoredFile};

/// What a run cost, and what it printed.
pub(crate) struct Timed {
    pub(crate) seconds: f64,
    /// CPU time, user and system.
    pub(crate) cpu_seconds: f64,
    /// Peak resident memory.
    pub(crate) peak_kib: u64,
    pub(crate) stdout: String,
}

/// Runs a command until it ends. An exit status other than 0 is an error, with what the command wrote to standard
/// error; with `--json` evernear writes it to standard output.
pub(crate) fn run(command: &Command) -> Result<Timed> {
    let report = tempfile::NamedTempFile::new()?;
    let mut time = Command::new("/usr/bin/time");
    time.args(["--format", "%U %S %M", "--output"]).arg(report.path());
    time.arg(command.get_program()).args(command.get_args());
    time.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let start = Instant::now();
    let output = time.stdin(Stdio::null()).output().context("/usr/bin/time is in Debian's time")?;
    let seconds = start.elapsed().as_secs_f64();
    let program = command.get_program().to_string_lossy();
    let [out, error] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    ensure!(output.status.success(), "{program} failed: {error}{out}");
    let (cpu_seconds, peak_kib) = read_report(&fs::read_to_string(report.path())?)?;
    Ok(Timed { seconds, cpu_seconds, peak_kib, stdout: String::from_utf8(output.stdout)? })
}

/// Returns the command of a viewer who reads an object through the first edge and prints how many bytes came.
pub(crate) fn view(processes: &Processes, stored: &StoredFile) -> Command {
    let resolve = format!("{}:{}", stored.authority, processes.http.ip());
    let mut curl = curl();
    curl.args(["--resolve", &resolve, "--output", "/dev/null", "--write-out", "%{size_download}", &stored.url]);
    curl
}

/// Returns curl, which fails when a server does.
pub(crate) fn curl() -> Command {
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--fail"]);
    curl
}

/// Has curl store each file of a folder by a request of its own, so many at a time. `transfers` is a file for its list.
pub(crate) fn parallel(
    mut curl: Command,
    folder: &Path,
    transfers: &Path,
    clients: u32,
    url: impl Fn(usize, &Path) -> Result<String>,
) -> Result<Command> {
    let mut list = String::new();
    for (number, file) in fs::read_dir(folder)?.enumerate() {
        let file = file?.path();
        let url = url(number, &file)?;
        list += &format!("upload-file = {file:?}\nurl = \"{url}\"\noutput = \"/dev/null\"\n");
    }
    fs::write(transfers, list)?;
    curl.args(["--parallel", "--parallel-max", &clients.to_string(), "--fail-early", "--config"]).arg(transfers);
    Ok(curl)
}

/// Returns the CPU time in seconds and the peak resident memory in KiB.
fn read_report(report: &str) -> Result<(f64, u64)> {
    let words: Vec<&str> = report.split_whitespace().collect();
    let [user, system, peak] = words[..] else { bail!("time reported {report:?}, not three numbers") };
    Ok((user.parse::<f64>()? + system.parse::<f64>()?, peak.parse()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_has_the_sum_of_both_cpu_times_and_the_peak() {
        assert_eq!(read_report("1.50 0.25 70112\n").unwrap(), (1.75, 70112));
        assert!(read_report("Command exited with non-zero status 1\n1.50 0.25 70112\n").is_err());
    }
}
