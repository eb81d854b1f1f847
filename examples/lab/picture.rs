//! The picture: a panel for each scheduler, the best first, a line for each backend.

use std::fmt::Write as _;

use svcplane::time::Instant;

use super::measures::Measures;
use super::scenario::{Event, SAMPLES, Scenario, Slow, seconds};
use super::simulation::Outcome;
use super::verdict::Verdict;

const WIDTH: usize = 1000;
const MARGIN: usize = 16;
const COLUMNS: usize = 3;
const PANEL: usize = (WIDTH - (COLUMNS + 1) * MARGIN) / COLUMNS;
const TOP: usize = 86;
const PITCH: usize = 198;
/// Of the lines, within a panel.
const PLOT: Plot = Plot { left: 28.0, top: 48.0, width: 284.0, height: 112.0 };
/// One each two pixels.
const POINTS: usize = 142;

struct Plot {
    left: f64,
    top: f64,
    width: f64,
    height: f64,
}

const STYLE: &str = "text{font:11px sans-serif;fill:#57606a}.h{font-size:17px;font-weight:bold;fill:#1f2328}\
    .n{font-size:15px;font-weight:bold;fill:#1f2328}.v{font-size:12px;font-weight:bold}.t{font-size:9px;stroke:#fff;stroke-width:3px;paint-order:stroke}\
    .l{fill:none;stroke:#8c959f;stroke-width:1.6}.b{stroke-width:4.4}\
    .slow{stroke:#d1242f}.added{stroke:#0969da}.removed{stroke:#8250df}\
    text.slow{fill:#d1242f;stroke:none}text.added{fill:#0969da;stroke:none}text.removed{fill:#8250df;stroke:none}text.t{stroke:#fff}\
    .e{stroke-width:1;stroke-dasharray:2 3}.g{stroke:#e1e4e8}";

struct Picture<'a> {
    scenario: &'a Scenario,
    /// The load that the plots reach up to, and the distance of their lines.
    reach: (f64, f64),
    svg: String,
}

pub(crate) fn picture(scenario: &Scenario, outcomes: &[Outcome], measures: &[Measures]) -> String {
    let mut panels: Vec<Panel> = outcomes.iter().zip(measures).map(Panel::new(scenario)).collect();
    panels.sort_by(|a, b| {
        let imbalance = |panel: &Panel| panel.measures.imbalance.unwrap_or(0.0);
        (a.verdict.cmp(&b.verdict)).then(imbalance(a).total_cmp(&imbalance(b)))
    });
    let loads = panels.iter().flat_map(|panel| panel.loads.iter().flatten());
    // Above the lines there is room for the marks' names.
    let reach = reach(1.1 * loads.fold(1.0, |most, load| load.max(most)));
    let mut picture = Picture { scenario, reach, svg: String::new() };
    picture.begin(panels.len());
    for (n, panel) in (1..).zip(&panels) {
        picture.panel(n, panel);
    }
    picture.svg.push_str("</svg>\n");
    picture.svg
}

/// What a panel shows.
struct Panel<'a> {
    measures: &'a Measures,
    verdict: Verdict,
    /// Of each backend, at each point.
    loads: Vec<Vec<f64>>,
}

impl<'a> Panel<'a> {
    fn new(scenario: &Scenario) -> impl Fn((&'a Outcome, &'a Measures)) -> Self {
        |(outcome, measures)| {
            let load = |backend: usize| {
                let weight = f64::from(scenario.backends[backend].weight);
                let mean = |n: usize| {
                    let from = n * SAMPLES as usize / POINTS;
                    let to = (n + 1) * SAMPLES as usize / POINTS;
                    let samples = &outcome.samples[from..to];
                    let sum: u32 = samples.iter().map(|sample| sample[backend]).sum();
                    f64::from(sum) / samples.iter().map(|_| weight).sum::<f64>()
                };
                (0..POINTS).map(mean).collect()
            };
            let loads = (0..scenario.backends.len()).map(load).collect();
            Self { measures, verdict: Verdict::new(scenario, measures), loads }
        }
    }
}

/// A round number not less than the greatest load, and a part of it.
fn reach(most: f64) -> (f64, f64) {
    let steps = (0..).map(|power| 10_f64.powi(power)).flat_map(|ten| [ten, 2.0 * ten, 5.0 * ten]);
    let step = steps.take(40).find(|step| most <= 5.0 * step).unwrap_or(most);
    ((most / step).ceil() * step, step)
}

impl Picture<'_> {
    fn begin(&mut self, panels: usize) {
        let height = TOP + (panels + 1).div_ceil(COLUMNS) * PITCH;
        let scenario = self.scenario;
        let [connections, backends] = scenario.description();
        let _ = write!(
            self.svg,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
             role=\"img\">\n<title>Load per backend over time, by scheduler</title>\n<style>{STYLE}</style>\n\
             <rect x=\".5\" y=\".5\" width=\"{}\" height=\"{}\" rx=\"8\" fill=\"#fff\" stroke=\"#d0d7de\"/>\n",
            WIDTH - 1,
            height - 1,
        );
        self.text((MARGIN, 30), "h", "Load per backend over time, by scheduler, the best first");
        self.text((MARGIN, 50), "", &connections);
        self.text((MARGIN, 66), "", &backends);
        self.key();
    }

    /// The first panel says what the others show.
    fn key(&mut self) {
        let _ = writeln!(self.svg, "<g transform=\"translate({MARGIN} {TOP})\">");
        self.text((0, 16), "n", "How to read it");
        let mut y = 38;
        for (name, Event { backend, at }) in self.events() {
            let at = seconds(at);
            let what = match name {
                "slow" => format!("b{}, slow from {at} s on", backend + 1),
                "added" => format!("b{}, added at {at} s", backend + 1),
                _ => format!("b{}, removed at {at} s: its connections go on", backend + 1),
            };
            self.sample(y, name, &what);
            y += 15;
        }
        self.sample(y, "", "the other backends");
        let mut lines = vec![
            (17, "Height: active connections per weight.".to_owned()),
            (14, "Lines on one another: every backend has its part.".to_owned()),
            (17, "busiest: load of the busiest backend over the mean".to_owned()),
        ];
        let Scenario { added, removed, .. } = self.scenario;
        if let Some((added, fair)) = added.zip(self.scenario.fair_share_of_added()) {
            let added = added.backend + 1;
            lines.push((14, format!("rush: part of all new connections that go to b{added}")));
            lines.push((13, format!("in its first second; {} is fair", percent(fair))));
        }
        if removed.is_some() {
            lines.push((14, "moved: clients of other backends that the removal".to_owned()));
            lines.push((13, "sent elsewhere".to_owned()));
        }
        for (gap, line) in lines {
            y += gap;
            self.text((if gap == 13 { 12 } else { 0 }, y), "", &line);
        }
        self.svg.push_str("</g>\n");
    }

    fn sample(&mut self, y: usize, class: &str, what: &str) {
        let bold = if class.is_empty() { "" } else { "b " };
        let _ = writeln!(
            self.svg,
            "<path class=\"l {bold}{class}\" transform=\"scale(.5)\" d=\"M0 {}h40\"/>",
            2 * y - 8
        );
        self.text((28, y), class, what);
    }

    fn panel(&mut self, cell: usize, panel: &Panel) {
        let x = MARGIN + cell % COLUMNS * (PANEL + MARGIN);
        let y = TOP + cell / COLUMNS * PITCH;
        let (ink, paper) = panel.verdict.colours();
        let _ = writeln!(
            self.svg,
            "<g transform=\"translate({x} {y})\">\n<rect width=\"{PANEL}\" height=\"22\" rx=\"4\" fill=\"{paper}\"/>",
        );
        self.text((6, 16), "n", panel.measures.algorithm.as_str());
        let _ = writeln!(
            self.svg,
            "<text x=\"{}\" y=\"15\" class=\"v\" text-anchor=\"end\" style=\"fill:{ink}\">{}</text>",
            PANEL - 6,
            panel.verdict.words()
        );
        let Measures { imbalance, first, moved, .. } = panel.measures;
        for (x, name, value) in [
            (6, "busiest", imbalance.map(|value| format!("{value:.2} ×"))),
            (118, "rush", first[0].map(percent)),
            (224, "moved", moved[1].map(percent)),
        ] {
            let value = value.map_or(String::new(), |value| format!("{name} {value}"));
            self.text((x, 38), "", &value);
        }
        self.grid();
        self.lines(panel);
        self.marks();
        self.svg.push_str("</g>\n");
    }

    fn grid(&mut self) {
        let Plot { left, top, width, height } = PLOT;
        let (reach, step) = self.reach;
        let (right, bottom) = (left + width, top + height);
        for load in (0..=5).map(|n| f64::from(n) * step).take_while(|load| *load <= reach) {
            let y = self.y(load) / 2.0 + top;
            let _ = writeln!(self.svg, "<path class=\"g\" d=\"M{left} {y:.1}H{right}\"/>");
            let _ = writeln!(
                self.svg,
                "<text class=\"t\" x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{load}</text>",
                left - 4.0,
                y + 3.0
            );
        }
        for quarter in [0.0, 0.25, 0.5, 0.75, 1.0] {
            let at = seconds(self.scenario.end) * quarter;
            let _ = writeln!(
                self.svg,
                "<text class=\"t\" x=\"{}\" y=\"{}\" text-anchor=\"middle\">{at} s</text>",
                left + (width - 8.0) * quarter,
                bottom + 12.0
            );
        }
    }

    fn lines(&mut self, panel: &Panel) {
        let Plot { left, top, .. } = PLOT;
        let _ = writeln!(self.svg, "<g transform=\"translate({left} {top})scale(.5)\">");
        let events = self.events();
        let class = |backend: usize| events.iter().find(|(_, event)| event.backend == backend);
        let mut order: Vec<usize> = (0..panel.loads.len()).collect();
        order.sort_by_key(|&backend| class(backend).is_some());
        for backend in order {
            let class = class(backend).map_or(String::new(), |(name, _)| format!(" b {name}"));
            let _ = write!(self.svg, "<path class=\"l{class}\" d=\"");
            self.line(&panel.loads[backend]);
            self.svg.push_str("\"/>\n");
        }
        self.svg.push_str("</g>\n");
    }

    /// When something happens, over the lines.
    fn marks(&mut self) {
        let Plot { left, top, height, .. } = PLOT;
        let bottom = top + height;
        // Names of what happens at about the same time go below one another.
        let mut rows = [(8.0, 0.0), (17.0, 0.0), (26.0, 0.0)];
        for (name, Event { backend, at }) in self.events() {
            let x = left + self.x(at) / 2.0;
            let row = rows.iter().position(|(_, free)| x >= *free).unwrap_or(0);
            rows[row].1 = x + 60.0;
            let y = top + rows[row].0;
            let _ = writeln!(self.svg, "<path class=\"e {name}\" d=\"M{x:.1} {top}V{bottom}\"/>");
            let _ = writeln!(
                self.svg,
                "<text class=\"t {name}\" x=\"{:.1}\" y=\"{y}\">b{} {name}</text>",
                x + 3.0,
                backend + 1
            );
        }
    }

    /// Steps in half pixels; the empty ends are left out.
    fn line(&mut self, loads: &[f64]) {
        let occupied = |load: &f64| *load > 0.0;
        let from = loads.iter().position(occupied).unwrap_or(0).saturating_sub(1);
        let to = loads.iter().rposition(occupied).map_or(0, |last| loads.len().min(last + 2));
        let mut earlier: Option<f64> = None;
        for (n, &load) in loads.iter().enumerate().take(to).skip(from) {
            let y = self.y(load).round();
            let _ = match earlier.replace(y) {
                None => write!(self.svg, "M{} {y}l", n * 4 + 2),
                Some(earlier) => write!(self.svg, "4 {} ", y - earlier),
            };
        }
    }

    fn events(&self) -> Vec<(&'static str, Event)> {
        let Scenario { slow, added, removed, .. } = self.scenario;
        let slow = slow.map(|Slow { event, .. }| event);
        let events = [("slow", slow), ("added", *added), ("removed", *removed)];
        events.into_iter().filter_map(|(name, event)| Some((name, event?))).collect()
    }

    /// In half pixels from the left of the plot.
    fn x(&self, at: Instant) -> f64 {
        seconds(at) / seconds(self.scenario.end) * 2.0 * PLOT.width
    }

    /// In half pixels from the top of the plot.
    fn y(&self, load: f64) -> f64 {
        (1.0 - load / self.reach.0) * 2.0 * PLOT.height
    }

    fn text(&mut self, (x, y): (usize, usize), class: &str, text: &str) {
        let class = if class.is_empty() { String::new() } else { format!(" class=\"{class}\"") };
        let _ = writeln!(self.svg, "<text x=\"{x}\" y=\"{y}\"{class}>{text}</text>");
    }
}

fn percent(share: f64) -> String {
    let digits = usize::from(share < 0.0995);
    format!("{:.digits$} %", share * 100.0)
}
