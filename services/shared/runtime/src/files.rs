//! Files whose content changes while the process runs: certificates, trust roots, credentials.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use portolan_kernel::{Clock as _, SystemClock};
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;

use crate::{Tasks, metrics::unix_seconds, one_line};

/// How often a file is read again where nothing else is configured. An agent that renews a
/// certificate with a tenth of its life left gives us seconds, not minutes.
pub const POLL: Duration = Duration::from_secs(2);

type Parse<T> = dyn Fn(&[u8]) -> Result<T, String> + Send + Sync;
type Hash = [u8; 32];

/// What a file says now. It is read again and again and its content compared, because file events
/// are lost where files are replaced by renaming or by moving a link. What does not parse (half
/// written, of somebody else, expired) is logged once and counted, and what was read before stays.
///
/// Clones share the value.
pub struct Watched<T> {
    inner: Arc<Inner<T>>,
}

struct Inner<T> {
    key: &'static str,
    path: PathBuf,
    parse: Box<Parse<T>>,
    current: watch::Sender<Arc<T>>,
    seen: Mutex<Seen>,
}

/// What was read last.
struct Seen {
    accepted: Hash,
    /// Why what came after it was not accepted, as it was logged.
    refused: Option<String>,
}

/// A file that must be there and is not, or says nothing that can be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key} {}: {problem}", path.display())]
pub struct FileError {
    /// The configuration key that names the file.
    pub key: &'static str,
    /// The file.
    pub path: PathBuf,
    /// What is wrong; never anything of the content.
    pub problem: String,
}

impl<T: Send + Sync + 'static> Watched<T> {
    /// Reads the file named by the configuration key `key`, which also labels its metrics. The
    /// errors of `parse` are logged, so they must not quote the content.
    ///
    /// # Errors
    /// The file cannot be read or parsed.
    pub fn load<E: std::error::Error + 'static>(
        key: &'static str,
        path: impl Into<PathBuf>,
        parse: impl Fn(&[u8]) -> Result<T, E> + Send + Sync + 'static,
    ) -> Result<Self, FileError> {
        let path = path.into();
        let parse = move |content: &[u8]| parse(content).map_err(|error| one_line(&error));
        let first = std::fs::read(&path).map_err(|error| error.to_string()).and_then(|content| {
            let value = parse(&content)?;
            Ok((value, hash(&content)))
        });
        let (value, accepted) = match first {
            Ok(first) => first,
            Err(problem) => return Err(FileError { key, path, problem }),
        };
        describe();
        loaded(key);
        let inner = Inner {
            key,
            path,
            parse: Box::new(parse),
            current: watch::Sender::new(Arc::new(value)),
            seen: Mutex::new(Seen { accepted, refused: None }),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// What the file says, as of the last successful reading.
    pub fn current(&self) -> Arc<T> {
        Arc::clone(&self.inner.current.borrow())
    }

    /// For those who must act on a change.
    pub fn subscribe(&self) -> watch::Receiver<Arc<T>> {
        self.inner.current.subscribe()
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// Starts the task that reads the file every so often, until the soft token.
    pub fn keep_current(&self, tasks: &Tasks, every: Duration) {
        let (watched, soft) = (self.clone(), tasks.soft());
        tasks.spawn("file-watch", async move {
            while soft.run_until_cancelled(tokio::time::sleep(every)).await.is_some() {
                watched.reload().await;
            }
            Ok(())
        });
    }

    /// Reads the file once more. Returns whether there is a new value.
    pub async fn reload(&self) -> bool {
        let content = tokio::fs::read(&self.inner.path).await;
        self.inner.take(content)
    }
}

impl<T> Inner<T> {
    fn take(&self, content: io::Result<Vec<u8>>) -> bool {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let parsed = match content {
            Ok(content) if hash(&content) == seen.accepted => {
                seen.refused = None;
                return false;
            }
            Ok(content) => (self.parse)(&content).map(|value| (value, hash(&content))),
            Err(error) => Err(error.to_string()),
        };
        match parsed {
            Ok((value, hash)) => {
                *seen = Seen { accepted: hash, refused: None };
                loaded(self.key);
                count(self.key, "ok", 1);
                tracing::info!(file = self.key, "read again");
                self.current.send_replace(Arc::new(value));
                true
            }
            Err(problem) => {
                self.refuse(&mut seen, problem);
                false
            }
        }
    }

    /// Each problem is told once, not at every reading.
    fn refuse(&self, seen: &mut Seen, problem: String) {
        if seen.refused.as_ref() == Some(&problem) {
            return;
        }
        count(self.key, "failed", 1);
        let path = self.path.display();
        tracing::error!(file = self.key, %path, error = problem, "not usable, the old stays");
        seen.refused = Some(problem);
    }
}

fn hash(content: &[u8]) -> Hash {
    Sha256::digest(content).into()
}

fn describe() {
    metrics::describe_counter!(
        "portolan_reloads_total",
        "Readings of a changed file; after a failed one the old content stays in use."
    );
    metrics::describe_gauge!(
        "portolan_credentials_loaded_timestamp_seconds",
        "When the content in use was read (Unix time)."
    );
}

fn loaded(key: &'static str) {
    // So that both series exist before anything happens.
    count(key, "ok", 0);
    count(key, "failed", 0);
    metrics::gauge!("portolan_credentials_loaded_timestamp_seconds", "file" => key)
        .set(unix_seconds(SystemClock.now()));
}

fn count(key: &'static str, result: &'static str, times: u64) {
    metrics::counter!("portolan_reloads_total", "file" => key, "result" => result).increment(times);
}

impl<T> Clone for Watched<T> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<T> fmt::Debug for Watched<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched").field("path", &self.inner.path).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::num::ParseIntError;

    use portolan_kernel::{IdGen as _, RandomIds};

    use super::*;
    use crate::metrics;

    /// A file of one test's own, removed with it.
    struct File(PathBuf);

    impl File {
        fn new(content: &str) -> Self {
            let name = format!("portolan-file-{}", RandomIds(SystemClock).next());
            let file = Self(std::env::temp_dir().join(name));
            file.write(content);
            file
        }

        fn write(&self, content: &str) {
            std::fs::write(&self.0, content).unwrap();
        }
    }

    impl Drop for File {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    fn number(content: &[u8]) -> Result<u32, ParseIntError> {
        String::from_utf8_lossy(content).parse()
    }

    fn count(key: &str, result: &str) -> String {
        let series = format!("portolan_reloads_total{{file=\"{key}\",result=\"{result}\"}} ");
        let text = metrics::render();
        text.lines().find_map(|line| line.strip_prefix(&series)).unwrap_or("none").to_owned()
    }

    #[tokio::test]
    async fn a_changed_file_is_taken_and_a_bad_one_is_told_once_and_keeps_the_old() {
        metrics::install("sample").unwrap();
        let file = File::new("1");
        let watched = Watched::load("test.number", &file.0, number).unwrap();
        let mut changes = watched.subscribe();
        let counts = || (count("test.number", "ok"), count("test.number", "failed"));
        let expect = |ok: &str, failed: &str| (ok.to_owned(), failed.to_owned());
        assert_eq!((*watched.current(), counts()), (1, expect("0", "0")));
        assert!(!watched.reload().await, "the same content is no news");
        file.write("2");
        assert!(watched.reload().await && changes.has_changed().unwrap());
        assert_eq!((**changes.borrow_and_update(), counts()), (2, expect("1", "0")));
        for bad in ["3x", "3xy", ""] {
            file.write(bad);
            assert!(!watched.reload().await);
        }
        assert_eq!((*watched.current(), counts()), (2, expect("1", "2")), "two different problems");
        std::fs::remove_file(&file.0).unwrap();
        assert!(!watched.reload().await);
        assert_eq!((*watched.current(), counts()), (2, expect("1", "3")));
        file.write("2");
        assert!(!watched.reload().await, "it is back as it was");
        file.write("3");
        assert!(watched.reload().await);
        assert_eq!((*watched.current(), counts()), (3, expect("2", "3")));
    }

    #[test]
    fn a_file_that_is_no_use_at_first_is_an_error_that_names_it() {
        let file = File::new("one");
        let error = Watched::load("test.first", &file.0, number).unwrap_err();
        let expected = format!("test.first {}: invalid digit found in string", file.0.display());
        assert_eq!(error.to_string(), expected);
        let error = Watched::load("test.first", "/nonexistent/file", number).unwrap_err();
        assert!(error.to_string().starts_with("test.first /nonexistent/file: No such file"));
    }

    #[tokio::test]
    async fn the_file_is_read_again_by_itself() {
        let file = File::new("1");
        let watched = Watched::load("test.polled", &file.0, number).unwrap();
        let tasks = Tasks::new_for_test();
        watched.keep_current(&tasks, Duration::from_millis(5));
        let mut changes = watched.subscribe();
        file.write("2");
        tokio::time::timeout(Duration::from_secs(10), changes.changed()).await.unwrap().unwrap();
        assert_eq!(*watched.current(), 2);
        assert_eq!(tasks.shutdown(Duration::from_secs(5)).await, crate::Drained::InTime);
    }
}
