//! The command line: from arguments to what runs, and from how it ended to an exit code.
//!
//! Invariant: results go to standard output and everything else to standard error.

use std::{
    ffi::OsString,
    fs,
    io::{self, Write},
    path::Path,
    time::Instant,
};

use clap::{CommandFactory, Parser};
use headwater_engine::error::{Error, Result};
use tokio::{runtime::Runtime, sync::watch};

mod arguments;
mod aside;
mod catalog;
mod demo;
mod environment;
mod exit;
mod explain;
pub(crate) mod interrupt;
mod job;
mod jobs;
mod progress;
pub(crate) mod report;
pub(crate) mod runner;
pub(crate) mod script;
mod status;
#[cfg(test)]
mod tests;

pub use environment::Environment;
pub use exit::Exit;
pub(crate) use exit::Failure;

pub(crate) use aside::tell;

use arguments::{Arguments, Command, Common, Input, LogFormat, Results, StatsFormat};
use interrupt::Ended;
use runner::{ReportStyle, Style};
use script::Script;

use crate::{
    generate,
    output::{Expanded, Format, Look},
    parser::Statement,
    repl,
    secrets::Secrets,
    session::{Session, SessionConfig},
    settings::Settings,
};

/// Runs the command line.
pub fn run(arguments: impl IntoIterator<Item = OsString>, environment: &Environment) -> Exit {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage } else { Exit::Done };
        }
    };
    start_log(arguments.common.log_format, environment);
    match dispatch(arguments, environment) {
        Ok(exit) => exit,
        Err(failure) => failure.report(),
    }
}

fn dispatch(arguments: Arguments, environment: &Environment) -> Result<Exit, Failure> {
    let Arguments { common, results: before, input, command } = arguments;
    match command {
        None => sql(&common, before, &input, environment),
        Some(Command::Sql { results, input: after }) => {
            let statements = after.statements.or(input.statements);
            let files = input.files.into_iter().chain(after.files).collect();
            let job = after.job.or(input.job);
            sql(&common, results.or(before), &Input { statements, files, job }, environment)
        }
        Some(_) if input.statements.is_some() || !input.files.is_empty() || input.job.is_some() => {
            Err(Failure::Usage("-c, -f and --job before a command cannot be used with it".into()))
        }
        Some(Command::Run { files, results, job }) => {
            let script = Script::read(&files)?;
            let results = results.or(before);
            let config = session_config(&common, &results, environment)?;
            let style = style(&results, environment);
            let job = job.shown(common.metrics, style.progress);
            let ran = statements_of(&script, &config, &style, environment)
                .and_then(|statements| job::run(config, statements, &files, &job, style));
            ran.map_err(|failure| script.placed(failure))
        }
        Some(Command::Explain { files, against: Some(job), results }) => {
            let results = results.or(before);
            let config = session_config(&common, &results, environment)?;
            let script = Script::read(&files)?;
            let explained = explain_against(&script, config, &job, &style(&results, environment));
            explained.map_err(|failure| script.placed(failure))
        }
        Some(Command::Explain { files, against: None, results }) => {
            let work = Work::Explain(Script::read(&files)?);
            batch(&common, &for_plans(results.or(before), environment), work, environment)
        }
        Some(Command::Demo { demo, rows, results }) => {
            batch(&common, &results.or(before), Work::Demo(demo, rows), environment)
        }
        Some(Command::Generate { dataset, target, rows, seed, format }) => {
            generate_files(&generate::Options { dataset, rows, seed, format, target })
        }
        Some(Command::Jobs(jobs::JobsOptions { action, results })) => {
            let results = results.or(before);
            let config = session_config(&common, &results, environment)?;
            let action = action.unwrap_or(jobs::JobsAction::List);
            let has_terminal = environment.stdin_is_terminal && environment.stderr_is_terminal;
            runtime()?.block_on(jobs::run(config, &action, &style(&results, environment), has_terminal))
        }
        Some(Command::Checkpoints { options, results }) => {
            let results = results.or(before);
            let config = session_config(&common, &results, environment)?;
            runtime()?.block_on(jobs::checkpoints(config, &options, &style(&results, environment)))
        }
        Some(Command::Catalog { action }) => {
            let config = session_config(&common, &before, environment)?;
            runtime()?.block_on(async {
                let session = Session::open(config).await?;
                catalog::run(session.catalog().as_ref(), &action).await
            })?;
            Ok(Exit::Done)
        }
        Some(Command::Completions { shell }) => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "headwater", &mut text);
            io::stdout().write_all(&text)?;
            Ok(Exit::Done)
        }
    }
}

fn explain_against(script: &Script, config: SessionConfig, job: &str, style: &Style) -> Result<Exit, Failure> {
    let statements = crate::parser::parse(&script.text, &config.parameters)?;
    runtime()?.block_on(explain::against(config, statements, job, style))
}

fn sql(common: &Common, results: Results, input: &Input, environment: &Environment) -> Result<Exit, Failure> {
    let script = match &input.statements {
        Some(statements) => Script::of_text(statements),
        None if !input.files.is_empty() => Script::read(&input.files)?,
        None if environment.stdin_is_terminal => {
            let config = SessionConfig { job: input.job.clone(), ..session_config(common, &results, environment)? };
            let style = style(&results, environment);
            return repl::run(config, style, environment);
        }
        None => {
            let script = Script::read(&["-".into()])?;
            if repl::has_commands(&script.text) {
                let config = SessionConfig { job: input.job.clone(), ..session_config(common, &results, environment)? };
                return repl::run_piped(&script.text, config, style(&results, environment));
            }
            script
        }
    };
    batch(common, &results, Work::Run(script, input.job.clone()), environment)
}

/// What is done until it is done.
enum Work {
    /// A script is run, that may name the tables of a job.
    Run(Script, Option<String>),
    /// A script is explained.
    Explain(Script),
    /// A demo is shown, with so many rows.
    Demo(demo::Demo, Option<u64>),
}

fn batch(common: &Common, results: &Results, work: Work, environment: &Environment) -> Result<Exit, Failure> {
    let script = match &work {
        Work::Run(script, _) | Work::Explain(script) => script.clone(),
        Work::Demo(..) => Script::default(),
    };
    watched(common, results, work, environment).map_err(|failure| script.placed(failure))
}

fn watched(common: &Common, results: &Results, work: Work, environment: &Environment) -> Result<Exit, Failure> {
    let mut config = session_config(common, results, environment)?;
    let style = style(results, environment);
    let surroundings = environment.clone();
    let runtime = runtime()?;
    let (watched, running) = watch::channel(None);
    let work = async move {
        let (script, explained) = match work {
            Work::Demo(demo, rows) => return demo::run(demo, rows, config, &style, &watched).await,
            Work::Run(script, job) => {
                config.job = job;
                (script, false)
            }
            Work::Explain(script) => (script, true),
        };
        let statements = statements_of(&script, &config, &style, &surroundings)?;
        let session = Session::open(config).await?;
        let out = runner::standard_output();
        match explained {
            false => runner::run(&session, &statements, &style, &watched, out).await,
            true => explain::run(&session, statements, &style, &watched, out).await,
        }
    };
    let ended = interrupt::watch_over(runtime.handle(), running, work).map_err(Error::from)?;
    runtime.shutdown_background();
    match ended {
        Ended::Done(tally) => {
            let tally = tally?;
            Ok(if tally.warned && tally.strict { Exit::Failed } else { Exit::Done })
        }
        Ended::Late(error) => Err(error.into()),
        Ended::Interrupted => {
            tell("interrupted");
            Ok(Exit::Interrupted)
        }
    }
}

/// The statements of a script whose results can be written as they are to be.
fn statements_of(
    script: &Script,
    config: &SessionConfig,
    style: &Style,
    environment: &Environment,
) -> Result<Vec<Statement>, Failure> {
    let statements = crate::parser::parse(&script.text, &config.parameters)?;
    let shown = statements.iter().filter(|statement| gives_rows(statement)).count();
    runner::check_format(style.look.format, shown, environment.stdout_is_terminal)?;
    Ok(statements)
}

fn gives_rows(statement: &Statement) -> bool {
    use crate::parser::StatementKind::{Execute, ExecuteImmediate, Explain, Query, Show};
    matches!(statement.kind, Query(_) | Show(_) | Explain(_) | Execute { .. } | ExecuteImmediate { .. })
}

/// Lines of a plan hold commas: without CSV's quotes they read as they are.
fn for_plans(mut results: Results, environment: &Environment) -> Results {
    if !environment.stdout_is_terminal {
        results.format.get_or_insert(Format::Tsv);
    }
    results
}

fn style(results: &Results, environment: &Environment) -> Style {
    let to_terminal = environment.stdout_is_terminal;
    let format = results.format.unwrap_or(if to_terminal { Format::Table } else { Format::Csv });
    let width = || crossterm::terminal::size().ok().map(|(columns, _)| usize::from(columns));
    let width_max = if to_terminal { width() } else { None };
    let look = Look { format, width_max, expanded: if to_terminal { Expanded::Auto } else { Expanded::Off } };
    let report = match results.stats {
        Some(StatsFormat::Json) => ReportStyle::Json,
        None => ReportStyle::Rows,
    };
    let progress = environment.stderr_is_terminal && results.stats.is_none();
    // A file that `SHOW CREATE TABLE` is sent to can be run.
    let bare_ddl = results.format.is_none() && !to_terminal;
    Style { look, report, progress, bare_ddl }
}

fn session_config(common: &Common, results: &Results, environment: &Environment) -> Result<SessionConfig, Failure> {
    let endpoint = environment.variable("AWS_ENDPOINT_URL_S3").or(environment.variable("AWS_ENDPOINT_URL"));
    let mut settings: Vec<(String, String)> =
        endpoint.map(|endpoint| ("s3.endpoint".to_owned(), endpoint.to_owned())).into_iter().collect();
    settings.extend(configured(common.config.as_deref(), environment)?);
    let strict = results.strict.then(|| "true".to_owned());
    let options = [("timeout", &results.timeout), ("max-scan", &results.max_scan), ("strict", &strict)];
    for (key, value) in options {
        let Some(value) = value else { continue };
        let known = Settings::default().set(key, value);
        known.map_err(|error| {
            Failure::Usage(format!("--{key} cannot be \"{value}\"; {}", error.hint().unwrap_or_default()))
        })?;
        settings.push((key.to_owned(), value.clone()));
    }
    Ok(SessionConfig {
        state: common.state.clone(),
        catalog: common.catalog.clone(),
        local_state: common.local_state.clone(),
        warehouse: common.warehouse.clone(),
        secrets: Secrets::new(environment.variables.clone()),
        parameters: results.parameters.iter().cloned().collect(),
        job: None,
        settings,
        connectors: Vec::new(),
    })
}

/// The settings of the file named, else of `headwater.toml` here, else of the user's.
fn configured(named: Option<&Path>, environment: &Environment) -> Result<Vec<(String, String)>> {
    let here = Path::new("headwater.toml");
    let user = environment.user_configuration();
    let file = match named {
        Some(file) => file,
        None if here.is_file() => here,
        None => match &user {
            Some(file) if file.is_file() => file,
            _ => return Ok(Vec::new()),
        },
    };
    let text = fs::read_to_string(file).map_err(|error| Error::from(error).context(file.display()))?;
    Settings::pairs_of_toml(&text).map_err(|error| error.context(file.display()))
}

fn generate_files(options: &generate::Options) -> Result<Exit, Failure> {
    let started = Instant::now();
    let summary = generate::generate(options)?;
    tell(&format!(
        "{} ({}) written to {} under {} in {}",
        report::counted(summary.rows, "row"),
        report::bytes(summary.bytes),
        report::counted(summary.files, "file"),
        options.target.display(),
        report::duration(started.elapsed())
    ));
    Ok(Exit::Done)
}

/// The threads that statements run on.
pub(crate) fn runtime() -> Result<Runtime> {
    let stack = crate::parser::depth::STACK_BYTES;
    Ok(tokio::runtime::Builder::new_multi_thread().thread_stack_size(stack).enable_all().build()?)
}

/// What is logged unless asked otherwise: warnings, except of libraries whose failures we say in our own words.
const LOG_DEFAULT: &str = "warn,aws_config=off,aws_credential_types=off,aws_smithy_runtime=off,object_store=error";

fn start_log(format: LogFormat, environment: &Environment) {
    let filter = tracing_subscriber::EnvFilter::new(environment.variable("HEADWATER_LOG").unwrap_or(LOG_DEFAULT));
    let colour = environment.stderr_is_terminal && environment.has_colour();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(|| aside::Aside).with_ansi(colour);
    // A second log in one process is refused, which is what tests want.
    let _ = match format {
        LogFormat::Text => log.try_init(),
        LogFormat::Json => log.json().try_init(),
    };
}
