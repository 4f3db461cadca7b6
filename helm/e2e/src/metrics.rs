//! Reading Prometheus text from the admin port of a pod.

use crate::cluster::Cluster;

/// The samples of one pod.
#[derive(Debug, Default)]
pub(crate) struct Samples(Vec<(String, f64)>);

impl Samples {
    fn parse(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let sample = |line: &str| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        };
        Self(lines.filter_map(sample).collect())
    }

    /// Every sample of a metric: its labels as they are written, and its value.
    pub(crate) fn of<'a>(&'a self, metric: &'a str) -> impl Iterator<Item = (&'a str, f64)> {
        self.0.iter().filter_map(move |(name, value)| {
            let rest = name.strip_prefix(metric)?;
            (rest.is_empty() || rest.starts_with('{')).then_some((rest, *value))
        })
    }

    /// The sum over all labels.
    pub(crate) fn sum(&self, metric: &str) -> f64 {
        self.of(metric).map(|(_, value)| value).sum()
    }
}

impl Cluster {
    /// Asks a pod for its metrics, through the API server.
    ///
    /// # Errors
    /// kubectl fails.
    pub(crate) async fn metrics(&self, pod: &str) -> anyhow::Result<Samples> {
        let path = format!("/api/v1/namespaces/{}/pods/{pod}:9090/proxy/metrics", self.namespace);
        Ok(Samples::parse(&self.kubectl(&["get", "--raw", &path]).await?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_found_by_name_and_summed_over_labels() {
        let samples = Samples::parse("# HELP a b\na{x=\"1\"} 2\na{x=\"2 3\"} 3\nab 4\nb 5\n");
        assert!((samples.sum("a") - 5.0).abs() < f64::EPSILON);
        assert!((samples.sum("b") - 5.0).abs() < f64::EPSILON);
        assert_eq!(samples.of("a").map(|(labels, _)| labels).last(), Some("{x=\"2 3\"}"));
    }
}
