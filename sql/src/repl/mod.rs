//! The REPL: reads statements and commands, runs them, shows what they gave.
//!
//! ```text
//!  reedline (history, completion, colour, many lines until ';') --> command | statements
//!        statements --> cli::runner --> screen or file         Ctrl-C drops the statement, not the REPL
//! ```
//!
//! Invariant: the first prompt waits for nothing; the session opens with the first statement or Tab.

use std::{fs::File, io::BufWriter, path::PathBuf, sync::Arc};

use headwater_engine::error::{Error, Result};
use nu_ansi_term::{Color, Style as Colour};
use reedline::{
    ColumnarMenu, DefaultHinter, DefaultPrompt, DefaultPromptSegment, Emacs, FileBackedHistory, InputMode, KeyCode,
    KeyModifiers, MenuBuilder, Reedline, ReedlineEvent, ReedlineMenu, Signal, ValidationResult, Validator,
    default_emacs_keybindings,
};
use tokio::{
    runtime::Runtime,
    sync::{OnceCell, watch},
};

mod commands;
mod complete;
mod highlight;
mod screen;
mod words;

use commands::Command;
use screen::Screen;

use crate::{
    cli::{
        Environment, Exit, Failure,
        interrupt::{Ended, watch_over},
        runner::{self, Output, ReportStyle, Style},
        runtime, script, tell,
    },
    output::{Expanded, Format},
    parser,
    session::{Session, SessionConfig},
};

/// Entries kept in the history.
const HISTORY_MAX: usize = 10_000;
const MENU: &str = "completion";

/// A session that opens when it is first needed.
#[derive(Debug)]
struct LazySession {
    config: SessionConfig,
    session: OnceCell<Session>,
}

impl LazySession {
    async fn get(&self) -> Result<Session> {
        self.session.get_or_try_init(|| Session::open(self.config.clone())).await.cloned()
    }
}

/// Runs the REPL until the user ends it.
pub(crate) fn run(config: SessionConfig, style: Style, environment: &Environment) -> Result<Exit, Failure> {
    tell(&format!("Headwater {}. Statements end with ';', \\? lists the commands.", env!("CARGO_PKG_VERSION")));
    let history = config.local_state().join("history.txt");
    let session = Arc::new(LazySession { config, session: OnceCell::new() });
    let mut editor = editor(&session, history, environment);
    let pager = environment.variable("PAGER").map(str::to_owned);
    let screen = Some(Terminal { pager, pagers: screen::Pagers::default() });
    let mut repl = Repl { runtime: runtime()?, session, style, file: None, screen, warned: false };
    let prompt = DefaultPrompt::new(DefaultPromptSegment::Basic("headwater".into()), DefaultPromptSegment::Empty);
    loop {
        match editor.read_line(&prompt) {
            Ok(Signal::Success(text)) => match repl.line(&text) {
                Ok(Next::Line) => {}
                Ok(Next::End(exit)) => return Ok(exit),
                Err(failure) => {
                    failure.report();
                }
            },
            Ok(Signal::CtrlC) => {}
            Ok(Signal::CtrlD) => return Ok(Exit::Done),
            Ok(_) => {}
            Err(error) => return Err(Error::unavailable("the terminal cannot be read").caused_by(error).into()),
        }
    }
}

/// Whether lines that are piped in hold a command, which a script cannot.
pub(crate) fn has_commands(text: &str) -> bool {
    pieces(text).any(|piece| commands::is_command(piece.text))
}

/// Runs statements and commands that are piped in, up to the first that fails.
pub(crate) fn run_piped(text: &str, config: SessionConfig, style: Style) -> Result<Exit, Failure> {
    let session = Arc::new(LazySession { config, session: OnceCell::new() });
    let mut repl = Repl { runtime: runtime()?, session, style, file: None, screen: None, warned: false };
    for piece in pieces(text) {
        // Errors say the line of the whole text.
        let placed = format!("{}{}", "\n".repeat(piece.lines_before), piece.text);
        if let Next::End(exit) = repl.line(if commands::is_command(piece.text) { piece.text } else { &placed })? {
            return Ok(exit);
        }
    }
    Ok(if repl.warned { Exit::Failed } else { Exit::Done })
}

/// A command's line, or the lines up to where a statement ends.
struct Piece<'a> {
    lines_before: usize,
    text: &'a str,
}

fn pieces(text: &str) -> impl Iterator<Item = Piece<'_>> {
    let (mut rest, mut lines_before) = (text, 0);
    std::iter::from_fn(move || {
        let mut end = 0;
        for line in rest.split_inclusive('\n') {
            end += line.len();
            let piece = &rest[..end];
            if piece.trim().is_empty()
                || commands::is_command(piece)
                || line.contains(';') && parser::is_complete(piece)
            {
                break;
            }
        }
        let (piece, left) = rest.split_at(end);
        let found = Piece { lines_before, text: piece };
        lines_before += piece.matches('\n').count();
        rest = left;
        (!piece.is_empty()).then_some(found)
    })
}

fn editor(session: &Arc<LazySession>, history: PathBuf, environment: &Environment) -> Reedline {
    let mut keys = default_emacs_keybindings();
    let tab = ReedlineEvent::UntilFound(vec![ReedlineEvent::Menu(MENU.into()), ReedlineEvent::MenuNext]);
    keys.add_binding(KeyModifiers::NONE, KeyCode::Tab, tab);
    // With the whole line: the tables of a query stand behind its columns.
    let menu = ColumnarMenu::default().with_name(MENU).with_input_mode(InputMode::FullBuffer);
    let completer = complete::SqlCompleter::new(Arc::clone(session));
    let editor = Reedline::create()
        .with_validator(Box::new(UntilSemicolon))
        .with_completer(Box::new(completer))
        .with_quick_completions(true)
        .with_partial_completions(true)
        .with_menu(ReedlineMenu::EngineCompleter(Box::new(menu)))
        .with_edit_mode(Box::new(Emacs::new(keys)))
        .with_ansi_colors(environment.has_colour());
    let editor = if environment.has_colour() {
        let hint = Colour::new().fg(Color::DarkGray);
        editor
            .with_highlighter(Box::new(highlight::SqlHighlighter))
            .with_hinter(Box::new(DefaultHinter::default().with_style(hint)))
    } else {
        editor.with_highlighter(Box::new(Plain))
    };
    match FileBackedHistory::with_file(HISTORY_MAX, history) {
        Ok(history) => editor.with_history(Box::new(history)),
        Err(error) => {
            tell(&format!("warning: the history is not kept: {error}"));
            editor
        }
    }
}

/// Shows the text as it is.
#[derive(Debug)]
struct Plain;

impl reedline::Highlighter for Plain {
    fn highlight(&self, line: &str, _cursor: usize) -> reedline::StyledText {
        let mut text = reedline::StyledText::new();
        text.push((Colour::new(), line.to_owned()));
        text
    }
}

/// A statement is complete at its semicolon, a command at the end of its line.
#[derive(Debug)]
struct UntilSemicolon;

impl Validator for UntilSemicolon {
    fn validate(&self, line: &str) -> ValidationResult {
        let complete = line.trim().is_empty() || commands::is_command(line) || parser::is_complete(line);
        if complete { ValidationResult::Complete } else { ValidationResult::Incomplete }
    }
}

/// Whether the REPL goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Line,
    End(Exit),
}

struct Repl {
    runtime: Runtime,
    session: Arc<LazySession>,
    style: Style,
    file: Option<PathBuf>,
    /// Where results are shown; without one they are written.
    screen: Option<Terminal>,
    /// Whether something was warned of that `--strict` does not let pass.
    warned: bool,
}

/// A screen of lines, and what shows more of them.
struct Terminal {
    pager: Option<String>,
    pagers: screen::Pagers,
}

impl Repl {
    fn line(&mut self, text: &str) -> Result<Next, Failure> {
        match commands::is_command(text) {
            true => self.command(commands::parse(text)?),
            false => self.statements(text),
        }
    }

    fn command(&mut self, command: Command) -> Result<Next, Failure> {
        match command {
            Command::Quit => return Ok(Next::End(Exit::Done)),
            Command::Help => {
                for (usage, meaning) in commands::HELP {
                    tell(&format!("  {usage:<18} {meaning}"));
                }
            }
            Command::Describe(Some(table)) => return self.statements(&format!("DESCRIBE {table}")),
            Command::Describe(None) | Command::Tables => return self.statements("SHOW TABLES"),
            Command::Databases => return self.statements("SHOW DATABASES"),
            Command::Functions(None) => return self.statements("SHOW FUNCTIONS"),
            Command::Functions(Some(pattern)) => {
                return self.statements(&format!("SHOW FUNCTIONS LIKE '{}'", pattern.replace('\'', "''")));
            }
            Command::Timing(choice) => {
                let on = choice.unwrap_or(self.style.report == ReportStyle::Silent);
                self.style.report = if on { ReportStyle::Every } else { ReportStyle::Silent };
                tell(&format!("timing is {}", if on { "on" } else { "off" }));
            }
            Command::Expand(choice) => {
                let now = self.style.look.expanded;
                let next = choice.unwrap_or(if now == Expanded::On { Expanded::Auto } else { Expanded::On });
                self.style.look.expanded = next;
                let name = match next {
                    Expanded::On => "on",
                    Expanded::Off => "off",
                    Expanded::Auto => "automatic",
                };
                tell(&format!("expanded display is {name}"));
            }
            Command::Output(file) => self.file = file.map(PathBuf::from),
            Command::Format(format) => self.style.look.format = format,
            Command::Include(file) => return self.statements(&script::read_file(&PathBuf::from(file))?),
        }
        Ok(Next::Line)
    }

    fn statements(&mut self, text: &str) -> Result<Next, Failure> {
        let mut style = self.style.clone();
        let size = crossterm::terminal::size().unwrap_or((80, 24));
        if self.screen.is_some() {
            if style.report == ReportStyle::Rows {
                style.report = ReportStyle::Every;
            }
            style.look.width_max = self.file.is_none().then_some(usize::from(size.0));
        }
        runner::check_format(style.look.format, 1, self.screen.is_some() && self.file.is_none())?;
        let out = self.output(usize::from(size.1))?;
        let (session, text) = (Arc::clone(&self.session), text.to_owned());
        let (watched, running) = watch::channel(None);
        let work = async move {
            let session = session.get().await?;
            let statements = session.parse(&text)?;
            runner::run(&session, &statements, &style, &watched, out).await
        };
        let ended = watch_over(self.runtime.handle(), running, work).map_err(Error::from)?;
        if let Some(screen) = &self.screen {
            screen.pagers.left();
        }
        let stopped = match ended {
            Ended::Done(tally) => {
                let tally = tally?;
                self.warned |= tally.warned && tally.strict;
                return Ok(Next::Line);
            }
            Ended::Interrupted if self.screen.is_some() => {
                tell("cancelled");
                Ok(Next::Line)
            }
            Ended::Interrupted => {
                tell("interrupted");
                Ok(Next::End(Exit::Interrupted))
            }
            Ended::Late(error) => Err(error.into()),
        };
        // What was stopped may still hold the threads, so the next statement gets new ones.
        std::mem::replace(&mut self.runtime, runtime()?).shutdown_background();
        stopped
    }

    fn output(&self, lines: usize) -> Result<Output> {
        match (&self.file, &self.screen) {
            (None, None) => Ok(runner::standard_output()),
            (None, Some(Terminal { pager, pagers })) => {
                Ok(Box::new(Screen::new(lines.saturating_sub(2), pager.as_deref(), pagers.clone())))
            }
            (Some(path), _) => {
                // Results follow one another in a file of text; a Parquet file is one result.
                let is_one = self.style.look.format == Format::Parquet;
                let open = File::options().create(true).append(!is_one).write(true).truncate(is_one).open(path);
                let file = open.map_err(|error| Error::from(error).context(path.display()))?;
                Ok(Box::new(BufWriter::new(file)))
            }
        }
    }
}
