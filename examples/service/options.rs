//! The command line.

use std::env;
use std::ffi::OsString;
use std::fs::{self, DirBuilder};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const USAGE: &str = "\
usage: service [--listen ADDR] [--index DIR] [--db FILE]

  --listen ADDR  where to listen; 127.0.0.1:8080 by default, port 0 takes a free one
  --index DIR    the directory of text files to search; the current one by default
  --db FILE      the index, an SQLite file; by default one in a folder of your own below the system's folder for
                 temporary files
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
    pub fn parse(mut arguments: impl Iterator<Item = OsString>) -> Result<Self, Stop> {
        let mut options = Self { listen: "127.0.0.1:8080".to_owned(), index: PathBuf::from("."), db: None };
        while let Some(name) = arguments.next() {
            let name = text(name)?;
            if ["--help", "-h"].contains(&name.as_str()) {
                return Err(Stop::Help);
            }
            let mut value = || arguments.next().ok_or_else(|| Stop::Misuse(format!("{name} needs a value")));
            match name.as_str() {
                "--listen" => options.listen = text(value()?)?,
                "--index" => options.index = value()?.into(),
                "--db" => options.db = Some(value()?.into()),
                _ => return Err(Stop::Misuse(format!("what is {name}?"))),
            }
        }
        Ok(options)
    }

    /// The file of the index. The default name differs by user and directory, so that neither two users nor two
    /// directories share one.
    pub(super) fn database(&self) -> Database {
        if let Some(db) = &self.db {
            return Database { folder: None, file: db.clone() };
        }
        let user = env::var_os("USER").or_else(|| env::var_os("USERNAME"));
        let directory = self.index.canonicalize().unwrap_or_else(|_| self.index.clone());
        let hash = |value: &dyn Fn(&mut DefaultHasher)| {
            let mut hasher = DefaultHasher::new();
            value(&mut hasher);
            hasher.finish()
        };
        let of_user = hash(&|hasher| user.hash(hasher));
        let of_directory = hash(&|hasher| directory.hash(hasher));
        let folder = env::temp_dir().join(format!("bursar-service-{of_user:016x}"));
        let file = folder.join(format!("{of_directory:016x}.sqlite"));
        Database { folder: Some(folder), file }
    }
}

/// Where the index is.
#[derive(Clone, Debug)]
pub(super) struct Database {
    /// The folder that is made for it. Everybody may make files in the folder above, so it has to be ours alone: SQLite
    /// follows symbolic links.
    folder: Option<PathBuf>,
    pub(super) file: PathBuf,
}

impl Database {
    /// Makes its folder, if it is to have one. Blocks.
    pub(super) fn make_room(&self) -> Result<(), String> {
        self.folder.as_deref().map_or(Ok(()), private_folder)
    }
}

/// Makes a folder that only this user can change, or finds that it is one.
fn private_folder(path: &Path) -> Result<(), String> {
    let said = |error: io::Error| format!("cannot use the folder {}: {error}", path.display());
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(said(error)),
    }
    // Of the name itself: a link is not followed.
    let found = fs::symlink_metadata(path).map_err(said)?;
    let is_ours = fs::metadata("/proc/self").map_or(true, |ourselves| ourselves.uid() == found.uid());
    if found.is_dir() && is_ours && found.mode() & 0o022 == 0 {
        return Ok(());
    }
    Err(format!("{} is there, and not a folder of this user alone; say --db", path.display()))
}

fn text(argument: OsString) -> Result<String, Stop> {
    let said = |argument: OsString| {
        Stop::Misuse(format!("this argument is not UTF-8: {}", argument.to_string_lossy()))
    };
    argument.into_string().map_err(said)
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStringExt;
    use std::os::unix::fs::symlink;

    #[test]
    fn v14_an_argument_that_is_no_text_is_said() {
        let odd = || OsString::from_vec(vec![b'a', 0xff]);
        let Err(Stop::Misuse(what)) = Options::parse([odd()].into_iter()) else { panic!("it was taken") };
        assert!(what.starts_with("this argument is not UTF-8: a"), "{what}");
        // A path may be anything.
        let options = Options::parse(["--index".into(), odd()].into_iter()).unwrap();
        assert_eq!(options.index.into_os_string(), odd());
    }

    #[test]
    fn v14_a_link_in_the_place_of_the_folder_is_not_followed() {
        let base = env::temp_dir().join(format!("bursar-v14-{}", std::process::id()));
        let (link, elsewhere) = (base.join("link"), base.join("elsewhere"));
        fs::create_dir_all(&elsewhere).unwrap();
        symlink(&elsewhere, &link).unwrap();
        let error = private_folder(&link).unwrap_err();
        assert!(error.contains("not a folder of this user alone"), "{error}");
        let ours = base.join("ours");
        private_folder(&ours).unwrap();
        private_folder(&ours).unwrap();
        assert_eq!(fs::metadata(&ours).unwrap().mode() & 0o777, 0o700);
        let open = base.join("open");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        assert!(private_folder(&open).is_err());
        fs::remove_dir_all(base).unwrap();
    }
}
