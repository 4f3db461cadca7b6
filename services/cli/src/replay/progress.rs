use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::{Instant, sleep};

use super::drive::Driver;
use crate::out::Screen;

const REDRAW: Duration = Duration::from_millis(200);
const PLAIN: Duration = Duration::from_secs(5);
const TEMPLATE: &str = "{bar:40.cyan/blue} {pos}/{len} final, {msg} accepted, {elapsed}";

/// Shows how far the run is, for as long as it is polled: a bar on a terminal, lines elsewhere.
pub(super) async fn show(driver: Arc<Driver>, total: u64, screen: Screen) {
    let counts = || {
        let accepted = driver.progress.accepted.load(Ordering::Relaxed);
        (accepted, driver.progress.finished.load(Ordering::Relaxed))
    };
    if screen.terminal {
        let bar = ProgressBar::new(total);
        if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
            bar.set_style(style);
        }
        // Cleared when the run is over and this is dropped.
        let _clear = ClearOnDrop(bar.clone());
        loop {
            let (accepted, finished) = counts();
            bar.set_message(accepted.to_string());
            bar.set_position(finished);
            sleep(REDRAW).await;
        }
    }
    let start = Instant::now();
    loop {
        sleep(PLAIN).await;
        let (accepted, finished) = counts();
        let seconds = start.elapsed().as_secs();
        screen.line(&format!("{seconds:>5} s  {accepted} of {total} accepted, {finished} final"));
    }
}

struct ClearOnDrop(ProgressBar);

impl Drop for ClearOnDrop {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
