//! The command line: what can be asked for, with which limits, and the exit codes.
//!
//! Only syntax is decided here. Whether a process exists, or a tier works on this machine, is
//! found out in `app`, where the answer can name the reason.

use crate::export::report::{self, Stacks, TextOptions};
use clap::{ArgAction, ArgGroup, Args, Parser, Subcommand, ValueEnum, ValueHint};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// How the program ends. One table for the code and for the help text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done. Also when whoever read standard output left after a part of it.
    Ok = 0,
    /// Failed; one line on stderr says at what.
    Failed = 1,
    /// The command line is wrong.
    Usage = 2,
    /// No permission; the text names the missing capability or setting.
    NoPermission = 77,
}

impl Exit {
    /// The number.
    pub fn code(self) -> u8 {
        self as u8
    }
}

/// Samples of running threads per second and CPU, unless the user says otherwise: not a round
/// number, so that it does not run in step with timers.
pub const DEFAULT_CPU_HZ: u32 = 99;

const EXIT_CODES: &str = "Exit codes:\n  \
    0   done (also when the reader of the output left after a part)\n  \
    1   failed; one line on stderr says what, why and what to do\n  \
    2   the command line is wrong\n  \
    77  no permission; the text names the missing capability or setting";

const EXAMPLES: &str = "Examples:\n  \
    observer ps                          which processes run Go, tokio or native threads\n  \
    observer report -p 4242              what is blocked in pid 4242, watched for 10 s\n  \
    observer report -p 4242 -d 1m -o r   the same for a minute, into file r\n  \
    observer doctor -p 4242              what can be seen here, and what to do if it is little";

const REPORT_EXAMPLES: &str = "Examples:\n  \
    observer report -p 4242                    10 s, text\n  \
    observer report -p 4242,4243 -d 30         two processes, half a minute\n  \
    observer report --comm redirect --full     every process of that name, nothing shortened\n  \
    observer report -p 4242 -f json -o r.json  for programs; file mode 0600\n  \
    observer report -d 5 -- ./server --port 0  start the target, watch it from its first moment\n\n\
    Ctrl-C ends the observation early and still reports. The target is only read: it is not\n\
    stopped, traced or changed, and nothing is left behind.";

/// Attach to a live process and be told which goroutine or async task is blocked, on what, for how
/// long, and because of whom. The target is not stopped, changed or restarted.
#[derive(Debug, Parser)]
#[command(name = "observer", version, after_help = EXAMPLES, after_long_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"))]
#[command(
    max_term_width = 100,
    arg_required_else_help = true,
    disable_help_subcommand = true
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Log less: errors only.
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Log more (-vv: everything), and show how things are known.
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Watch processes for a while, then say what is blocked and where.
    Report(ReportArgs),
    /// List processes with their runtime, and what can be seen in each.
    Ps(PsArgs),
    /// Say what works on this machine: ok, degraded or missing, why, and what to do.
    Doctor(DoctorArgs),
}

/// `observer report`.
#[derive(Debug, Args)]
#[command(after_help = REPORT_EXAMPLES, after_long_help = format!("{REPORT_EXAMPLES}\n\n{EXIT_CODES}"))]
#[command(
    override_usage = "observer report [OPTIONS] <-p PID[,PID] | --comm NAME | --exe PATH | -- CMD...>"
)]
#[command(group = ArgGroup::new("target").required(true).multiple(true))]
pub struct ReportArgs {
    /// Processes to watch.
    #[arg(short, long = "pid", value_name = "PID[,PID]", value_delimiter = ',', group = "target",
          value_parser = clap::value_parser!(u32).range(1..))]
    pub pids: Vec<u32>,
    /// Watch every process with this command name (as in /proc/PID/comm).
    #[arg(long, value_name = "NAME", group = "target")]
    pub comm: Vec<String>,
    /// Watch every process that runs this executable.
    #[arg(long, value_name = "PATH", group = "target", value_hint = ValueHint::ExecutablePath)]
    pub exe: Vec<PathBuf>,
    /// How long to watch: seconds, or with a unit as in 500ms, 2m, 1h30m (0.1 s to 24 h).
    #[arg(short, long, value_name = "TIME", default_value = "10", value_parser = length)]
    pub duration: Duration,
    /// How often the kernel's tables are read meanwhile: seconds, or with a unit (0.1 s to 24 h).
    #[arg(short, long, value_name = "TIME", default_value = "1", value_parser = length)]
    pub interval: Duration,
    /// Record waits of at least this many microseconds one by one; shorter ones are only counted,
    /// so totals are complete either way.
    #[arg(long, value_name = "MICROSECONDS", default_value_t = 1000,
          value_parser = clap::value_parser!(u64).range(0..=3_600_000_000))]
    pub min_us: u64,
    /// Sample running threads this often per second and CPU, to find tasks that compute (1 to 999).
    #[arg(long, value_name = "HZ", default_value_t = DEFAULT_CPU_HZ,
          value_parser = clap::value_parser!(u32).range(1..=999))]
    pub cpu_hz: u32,
    /// Do not sample running threads: only waits are seen.
    #[arg(long, conflicts_with = "cpu_hz")]
    pub no_cpu: bool,
    /// Show user stacks only.
    #[arg(short = 'U', long, conflicts_with = "kernel_stacks")]
    pub user_stacks: bool,
    /// Show kernel stacks only.
    #[arg(short = 'K', long)]
    pub kernel_stacks: bool,
    /// How to show the report: text or json.
    #[arg(short, long, value_name = "FORMAT", default_value = "text", value_parser = report_format)]
    pub format: &'static str,
    /// Write to this file (mode 0600, whole or not at all) instead of standard output.
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub output: Option<PathBuf>,
    /// How much to observe, and who pays for it: one or more, separated by commas.
    #[arg(
        long,
        value_enum,
        value_name = "TIER[,TIER]",
        value_delimiter = ',',
        default_value = "sched"
    )]
    pub tier: Vec<Tier>,
    /// Tier runtime: take a target's probes out when they are hit more often than this, in hits per
    /// second; the report says when.
    #[arg(long, value_name = "HITS", value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub max_hits: Option<u64>,
    /// Tier runtime, tokio: leave wake-ups alone: half the cost per poll, and no delays or victims.
    #[arg(long)]
    pub no_delays: bool,
    /// Show every site, frame and task instead of the largest ones.
    #[arg(long)]
    pub full: bool,
    /// Start this program and watch it.
    #[arg(last = true, value_name = "CMD", group = "target")]
    pub cmd: Vec<OsString>,
}

impl ReportArgs {
    /// What the text form shows.
    pub fn text_options(&self, verbose: u8) -> TextOptions {
        TextOptions {
            full: self.full,
            verbose: verbose > 0,
            stacks: match (self.user_stacks, self.kernel_stacks) {
                (true, _) => Stacks::User,
                (_, true) => Stacks::Kernel,
                _ => Stacks::Both,
            },
        }
    }
}

/// `observer ps`.
#[derive(Debug, Args)]
pub struct PsArgs {
    /// Only these processes (default: all that may be read).
    #[arg(short, long = "pid", value_name = "PID[,PID]", value_delimiter = ',',
          value_parser = clap::value_parser!(u32).range(1..))]
    pub pids: Vec<u32>,
    /// How to show the list.
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t = ListFormat::Text)]
    pub format: ListFormat,
}

/// `observer doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Also check what can be seen in this process.
    #[arg(short, long, value_name = "PID", value_parser = clap::value_parser!(u32).range(1..))]
    pub pid: Option<u32>,
    /// How to show the checks.
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t = ListFormat::Text)]
    pub format: ListFormat,
}

/// How `ps` and `doctor` are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ListFormat {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// How much is observed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Tier {
    /// The scheduler: threads of the target pay when they block.
    Sched,
    /// Also every system call: every process of the host pays a little.
    Syscalls,
    /// Also the kernel's own waits.
    Kernel,
    /// Also the runtime's own transitions: the target pays per transition.
    Runtime,
    /// All of them.
    Full,
}

impl Tier {
    /// The name used on the command line and in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sched => "sched",
            Self::Syscalls => "syscalls",
            Self::Kernel => "kernel",
            Self::Runtime => "runtime",
            Self::Full => "full",
        }
    }
}

/// A length of time: a bare number is seconds.
fn length(text: &str) -> Result<Duration, String> {
    const RANGE: &str = "it must be between 0.1 s and 24 h (86400 s)";
    let parsed = match text.parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).map_err(|_| RANGE)?,
        Err(_) => humantime::parse_duration(text)
            .map_err(|_| "not a length of time: a number of seconds, or one with a unit, as in 500ms, 10s, 2m, 1h30m")?,
    };
    if (Duration::from_millis(100)..=Duration::from_hours(24)).contains(&parsed) {
        Ok(parsed)
    } else {
        Err(RANGE.to_owned())
    }
}

fn report_format(text: &str) -> Result<&'static str, String> {
    if let Some(format) = report::format(text) {
        return Ok(format.name);
    }
    let known = report::FORMATS
        .iter()
        .map(|format| format.name)
        .collect::<Vec<_>>()
        .join(" or ");
    Err(format!("this version can write {known}"))
}

/// Why there is no command to run: help or version was asked for, or the command line is wrong.
#[derive(Debug, PartialEq, Eq)]
pub struct Stop {
    /// How to exit.
    pub exit: Exit,
    /// What to print: to stdout when `exit` is [`Exit::Ok`], else to stderr.
    pub text: String,
}

/// Reads the command line, the program's name first.
///
/// # Errors
/// [`Stop`] when there is nothing to run; a usage error is one line and a hint.
pub fn parse<I, T>(args: I) -> Result<Cli, Stop>
where
    I: IntoIterator<Item = T>,
    T: Into<OsString> + Clone,
{
    let args: Vec<OsString> = args.into_iter().map(Into::into).collect();
    Cli::try_parse_from(&args).map_err(|error| stop(&error, &args))
}

fn stop(error: &clap::Error, args: &[OsString]) -> Stop {
    use clap::error::ErrorKind::{
        DisplayHelp, DisplayHelpOnMissingArgumentOrSubcommand, DisplayVersion,
    };
    let rendered = error.render().to_string();
    match error.kind() {
        DisplayHelp | DisplayVersion => Stop {
            exit: Exit::Ok,
            text: rendered,
        },
        DisplayHelpOnMissingArgumentOrSubcommand => Stop {
            exit: Exit::Usage,
            text: rendered,
        },
        _ => {
            let words = rendered.split("\n\nUsage").next().unwrap_or_default();
            let words = words.split("\n\nFor more").next().unwrap_or_default();
            let line = words.split_whitespace().collect::<Vec<_>>().join(" ");
            let line = super::export::text::clean::clean(&line);
            let known = ["report", "ps", "doctor"];
            let command = args.iter().skip(1).filter_map(|arg| arg.to_str());
            let command = command
                .filter(|arg| known.contains(arg))
                .map(|arg| format!("{arg} "))
                .next();
            let hint = format!("observer {}--help", command.unwrap_or_default());
            Stop {
                exit: Exit::Usage,
                text: format!("{line}\nhint: {hint}\n"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(args: &str) -> ReportArgs {
        let args = ["observer", "report"]
            .into_iter()
            .chain(args.split_whitespace());
        match parse(args).unwrap().command {
            Command::Report(args) => args,
            other => panic!("{other:?}"),
        }
    }

    fn refused(args: &str, expected: &str) {
        let stop = parse(["observer"].into_iter().chain(args.split_whitespace())).unwrap_err();
        assert_eq!(stop.exit, Exit::Usage, "{args}");
        assert!(stop.text.contains(expected), "{args}: {}", stop.text);
        assert_eq!(
            stop.text.lines().count(),
            2,
            "one line and a hint: {}",
            stop.text
        );
        assert!(stop.text.contains("hint: observer "), "{}", stop.text);
    }

    #[test]
    fn defaults_are_those_of_the_contract() {
        let args = report("-p 4242");
        assert_eq!(args.pids, [4242]);
        assert_eq!(args.duration, Duration::from_secs(10));
        assert_eq!(
            (args.min_us, args.format, args.tier.clone()),
            (1000, "text", vec![Tier::Sched])
        );
        assert_eq!(args.text_options(0), TextOptions::default());
    }

    #[test]
    fn lengths_of_time_are_seconds_or_have_a_unit() {
        for (text, ms) in [
            ("10", 10_000),
            ("0.5", 500),
            ("10s", 10_000),
            ("500ms", 500),
            ("2m", 120_000),
            ("2min", 120_000),
            ("1h30m", 5_400_000),
            ("1.5s", 1_500),
            ("0.1", 100),
            ("100ms", 100),
            ("24h", 86_400_000),
        ] {
            let args = report(&format!("-p 1 -d {text} -i {text}"));
            let expected = Duration::from_millis(ms);
            assert_eq!(
                (args.duration, args.interval),
                (expected, expected),
                "{text}"
            );
        }
    }

    #[test]
    fn several_targets_and_a_command() {
        assert_eq!(report("-p 1,2 --pid 3").pids, [1, 2, 3]);
        assert_eq!(report("--comm a --comm b").comm, ["a", "b"]);
        assert_eq!(
            report("-d 0.5 -- sleep 3 -p 7").cmd,
            ["sleep", "3", "-p", "7"]
        );
        assert_eq!(
            report("-p 1 -U -f json -o out").text_options(1).stacks,
            Stacks::User
        );
    }

    #[test]
    fn wrong_command_lines_are_one_line_and_a_hint() {
        refused("report", "required");
        refused("report -p 0", "0 is not in 1..");
        refused("report -p many", "invalid");
        for (what, expected) in [
            ("0", "between 0.1 s and 24 h"),
            ("nan", "between 0.1 s and 24 h"),
            ("1e300", "between 0.1 s and 24 h"),
            ("99ms", "between 0.1 s and 24 h"),
            ("25h", "between 0.1 s and 24 h"),
            ("99999999999999999999h", "not a length of time"),
            ("ten", "not a length of time"),
            ("s", "not a length of time"),
            ("10parsecs", "not a length of time"),
            ("10s5", "not a length of time"),
        ] {
            refused(&format!("report -p 1 -d {what}"), expected);
            refused(&format!("report -p 1 -i {what}"), expected);
        }
        refused("report -p 1 -d=-1s", "not a length of time");
        refused("report -p 1 -d=-1", "between 0.1 s and 24 h");
        refused("report -p 1 -f html", "this version can write text or json");
        refused("report -p 1 -U -K", "cannot be used with");
        refused("report -p 1 --tier most", "sched");
        refused("report -p 1 --evil\u{1b}[2J", "unexpected argument");
        refused("ps -q -v", "cannot be used with");
        refused("explode", "unrecognized subcommand");
    }

    #[test]
    fn help_and_version_are_not_errors() {
        for args in [["observer", "--help"], ["observer", "--version"]] {
            assert_eq!(parse(args).unwrap_err().exit, Exit::Ok);
        }
        let help = parse(["observer", "report", "--help"]).unwrap_err();
        assert!(
            help.text.contains("77") && help.text.contains("Ctrl-C"),
            "{}",
            help.text
        );
        assert!(
            help.text.lines().all(|line| line.chars().count() <= 100),
            "{}",
            help.text
        );
        assert_eq!(parse(["observer"]).unwrap_err().exit, Exit::Usage);
    }

    #[test]
    fn the_definition_is_consistent() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }
}
