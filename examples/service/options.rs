//! The command line.

use std::env;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::process::ExitCode;

const USAGE: &str = "\
usage: service [--listen ADDR] [--index DIR] [--db FILE]

  --listen ADDR  where to listen; 127.0.0.1:8080 by default, port 0 takes a free one
  --index DIR    the directory of text files to search; the current one by default
  --db FILE      the index, an SQLite file; by default one below the system's folder for temporary files
";

/// What the service is to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where to listen.
    pub listen: String,
    /// The directory of text files.
    pub index: PathBuf,
    /// The index; `None`: one below the system's folder for temporary files.
    pub db: Option<PathBuf>,
}

/// The command line asks for something else than to serve.
#[derive(Debug)]
pub enum Stop {
    /// `--help`.
    Help,
    /// It makes no sense.
    Misuse(String),
}

impl Options {
    /// Reads the arguments, without the program's name.
    ///
    /// # Errors
    ///
    /// When the program is not to go on.
    pub fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, Stop> {
        let mut options = Self { listen: "127.0.0.1:8080".to_owned(), index: PathBuf::from("."), db: None };
        while let Some(name) = arguments.next() {
            if ["--help", "-h"].contains(&name.as_str()) {
                return Err(Stop::Help);
            }
            let mut value = || arguments.next().ok_or_else(|| Stop::Misuse(format!("{name} needs a value")));
            match name.as_str() {
                "--listen" => options.listen = value()?,
                "--index" => options.index = value()?.into(),
                "--db" => options.db = Some(value()?.into()),
                _ => return Err(Stop::Misuse(format!("what is {name}?"))),
            }
        }
        Ok(options)
    }

    /// The file of the index. The default name differs by user and directory, so that neither two users nor two
    /// directories share one.
    pub(super) fn database(&self) -> PathBuf {
        if let Some(db) = &self.db {
            return db.clone();
        }
        let user = env::var_os("USER").or_else(|| env::var_os("USERNAME"));
        let directory = self.index.canonicalize().unwrap_or_else(|_| self.index.clone());
        let mut hasher = DefaultHasher::new();
        (user, directory).hash(&mut hasher);
        env::temp_dir().join(format!("bursar-service-{:016x}.sqlite", hasher.finish()))
    }
}

impl Stop {
    /// Says why, and how it is done.
    pub fn print(&self) -> ExitCode {
        match self {
            Self::Help => {
                print!("{USAGE}");
                ExitCode::SUCCESS
            }
            Self::Misuse(what) => {
                eprint!("service: {what}\n{USAGE}");
                ExitCode::from(2)
            }
        }
    }
}
