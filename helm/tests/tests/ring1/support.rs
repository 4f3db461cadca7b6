//! All the ways to render the chart, each rendered once for all tests.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    sync::{Mutex, OnceLock},
    thread,
};

use portolan_chart_tests::{
    helm::{CHART, Helm, Install, profiles},
    object::Objects,
    root,
    schemas::VERSION,
};

/// One rendering of the chart.
pub(crate) struct Rendered {
    /// The profile; the others tell renderings of one profile apart.
    pub(crate) profile: String,
    pub(crate) helm: Helm,
    pub(crate) install: Install,
    pub(crate) text: String,
    pub(crate) objects: Objects,
    /// What the text says, without its order and layout.
    pub(crate) content: String,
}

/// The oldest Kubernetes that the chart is for.
pub(crate) fn oldest_kubernetes() -> String {
    let chart = fs::read_to_string(root().join(CHART).join("Chart.yaml")).unwrap();
    let line = chart.lines().find_map(|line| line.strip_prefix("kubeVersion:")).unwrap();
    line.trim().trim_matches('"').trim_start_matches(">=").trim_end_matches("-0").to_owned()
}

/// A release of another name in another namespace: nothing may be called as in the usual one.
pub(crate) fn renamed() -> Install {
    Install::default().release("blue").namespace("harbour")
}

type Outcome = Result<Rendered, String>;

/// Every profile, with Helm 3 for the oldest Kubernetes and with Helm 4 for the newest: that neither
/// makes a difference is a test of its own.
fn outcomes() -> &'static [Outcome] {
    static OUTCOMES: OnceLock<Vec<Outcome>> = OnceLock::new();
    OUTCOMES.get_or_init(|| {
        let mut profiles = profiles().unwrap();
        profiles.push(("renamed".to_owned(), renamed()));
        let oldest = oldest_kubernetes();
        let mut tasks = Vec::new();
        for (profile, install) in profiles {
            for (helm, kubernetes) in [(Helm::Three, oldest.as_str()), (Helm::Four, VERSION)] {
                tasks.push((profile.clone(), helm, install.clone().kubernetes(kubernetes)));
            }
        }
        in_parallel(tasks, |(profile, helm, install)| render(profile, helm, install))
    })
}

fn render(profile: String, helm: Helm, install: Install) -> Outcome {
    let named = format!("{profile} ({helm}, Kubernetes {})", install.kubernetes);
    let text = install.render(helm).map_err(|error| format!("{named}: {error:#}"))?;
    let objects = Objects::parse(&text).map_err(|error| format!("{named}: {error:#}"))?;
    let content = content(&objects);
    Ok(Rendered { profile, helm, install, text, objects, content })
}

/// What objects say, without their order: the versions of Helm differ in that and in empty lines.
pub(crate) fn content(objects: &Objects) -> String {
    let mut lines: Vec<_> = objects.0.iter().map(|object| object.0.to_string()).collect();
    lines.sort();
    lines.join("\n")
}

/// Does something with each of many, on all cores; the answers come in the order of the questions.
pub(crate) fn in_parallel<T: Send, R: Send>(tasks: Vec<T>, work: impl Fn(T) -> R + Sync) -> Vec<R> {
    let workers = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let queue = Mutex::new(tasks.into_iter().enumerate());
    let done = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().unwrap().next();
                    let Some((index, task)) = next else { return };
                    let answer = work(task);
                    done.lock().unwrap().push((index, answer));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap();
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, answer)| answer).collect()
}

/// What could not be rendered, with Helm's words.
pub(crate) fn refused() -> Vec<&'static str> {
    outcomes().iter().filter_map(|outcome| outcome.as_ref().err().map(String::as_str)).collect()
}

/// Everything that could be rendered.
pub(crate) fn matrix() -> Vec<&'static Rendered> {
    outcomes().iter().filter_map(|outcome| outcome.as_ref().ok()).collect()
}

/// The same, of equal renderings only one.
pub(crate) fn distinct() -> Vec<&'static Rendered> {
    let mut seen = BTreeSet::new();
    matrix().into_iter().filter(|rendered| seen.insert(&rendered.text)).collect()
}

/// The rendering of a profile by Helm 4 for the newest Kubernetes.
pub(crate) fn profile(name: &str) -> &'static Rendered {
    let found = matrix()
        .into_iter()
        .find(|rendered| rendered.profile == name && rendered.helm == Helm::Four);
    found.unwrap_or_else(|| panic!("the profile {name} is not rendered: {:?}", refused()))
}

/// What does not hold, collected, so that one run shows all of it.
#[derive(Default)]
pub(crate) struct Findings {
    place: String,
    looked: usize,
    /// By complaint, where it applies.
    complaints: BTreeMap<String, BTreeSet<String>>,
}

impl Findings {
    /// Where the next complaints are from.
    pub(crate) fn at(&mut self, place: &str) -> &mut Self {
        place.clone_into(&mut self.place);
        self
    }

    /// Notes `complaint` if something does not hold.
    pub(crate) fn check(&mut self, holds: bool, complaint: impl FnOnce() -> String) {
        self.looked += 1;
        if !holds {
            let places = self.complaints.entry(complaint()).or_default();
            places.insert(self.place.clone());
        }
    }

    /// Fails if anything was noted, or if nothing was looked at: then the test looks past its object.
    pub(crate) fn assert_none(self) {
        assert!(self.looked > 0, "there was nothing to look at");
        let mut text = String::new();
        for (complaint, places) in &self.complaints {
            let places: Vec<_> = places.iter().map(String::as_str).collect();
            let _ = writeln!(text, "- {complaint} [{}]", places.join(", "));
        }
        assert!(self.complaints.is_empty(), "{} findings:\n{text}", self.complaints.len());
    }
}

/// Looks at every distinct rendering.
pub(crate) fn everywhere(look: impl Fn(&Rendered, &mut Findings)) {
    let mut findings = Findings::default();
    for rendered in distinct() {
        look(rendered, findings.at(&rendered.profile));
    }
    findings.assert_none();
}
