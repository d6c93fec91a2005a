//! Draws charts as SVG: bars on a logarithmic scale, and lines over time.

use std::fmt::Write as _;

const WIDTH: f64 = 960.0;
/// The columns of labels and of figures beside the bars.
const LEFT: f64 = 250.0;
const RIGHT: f64 = 250.0;
const ROW: f64 = 20.0;
const TOP: f64 = 64.0;

/// The colour of a bar or line.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Tone {
    Engine,
    Plain,
    /// The engine where it is slower.
    Slower,
}

impl Tone {
    fn colour(self) -> &'static str {
        match self {
            Self::Engine => "#2563eb",
            Self::Plain => "#94a3b8",
            Self::Slower => "#d97706",
        }
    }
}

/// Escapes `text` for XML.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            _ => out.push(char),
        }
    }
    out
}

/// A picture under construction.
struct Canvas(String);

impl Canvas {
    fn new(height: f64, title: &str, subtitle: &str) -> Self {
        let mut canvas = Self(format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
             viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n"
        ));
        canvas.rect((0.0, 0.0), (WIDTH, height), "white");
        canvas.heading(24.0, 16, title);
        canvas.text((16.0, 42.0), "start", "#475569", subtitle);
        canvas
    }

    fn rect(&mut self, (x, y): (f64, f64), (width, height): (f64, f64), fill: &str) {
        let _ = writeln!(
            self.0,
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" \
             fill=\"{fill}\"/>"
        );
    }

    fn line(&mut self, from: (f64, f64), to: (f64, f64), stroke: &str) {
        let _ = writeln!(
            self.0,
            "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke=\"{stroke}\"/>",
            from.0, from.1, to.0, to.1
        );
    }

    fn heading(&mut self, y: f64, size: u32, text: &str) {
        let _ = writeln!(
            self.0,
            "<text x=\"16\" y=\"{y:.1}\" font-size=\"{size}\" font-weight=\"bold\" \
             fill=\"#0f172a\">{}</text>",
            escape(text)
        );
    }

    fn text(&mut self, (x, y): (f64, f64), anchor: &str, fill: &str, text: &str) {
        let _ = writeln!(
            self.0,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"{fill}\">{}</text>",
            escape(text)
        );
    }

    fn finish(mut self) -> String {
        self.0.push_str("</svg>\n");
        self.0
    }
}

/// Bars on a logarithmic scale, one in a row, in sections.
#[derive(Debug)]
pub(crate) struct Bars<'a> {
    pub(crate) title: &'a str,
    pub(crate) subtitle: &'a str,
    /// The factor between two lines of the grid.
    pub(crate) step: f64,
    /// Bars begin at 1 and go both ways, rather than at the left edge.
    pub(crate) from_one: bool,
    /// Names a line of the grid.
    pub(crate) tick: fn(f64) -> String,
    pub(crate) sections: Vec<Section>,
}

#[derive(Debug)]
pub(crate) struct Section {
    pub(crate) title: String,
    pub(crate) bars: Vec<Bar>,
}

#[derive(Debug)]
pub(crate) struct Bar {
    pub(crate) label: String,
    pub(crate) value: f64,
    /// The figures beside the bar.
    pub(crate) text: String,
    pub(crate) tone: Tone,
}

impl Bars<'_> {
    /// Returns the exponents of the first and the last line of the grid.
    fn range(&self) -> (i32, i32) {
        let exponent = |value: f64| value.max(f64::MIN_POSITIVE).log(self.step);
        let bars = self.sections.iter().flat_map(|section| &section.bars);
        let exponents: Vec<f64> = bars.map(|bar| exponent(bar.value)).collect();
        let least = exponents.iter().copied().fold(0.0, f64::min).floor() as i32;
        let most = exponents.iter().copied().fold(0.0, f64::max).ceil() as i32;
        // A bar that ends at the edge looks cut off, and one that begins there cannot be seen.
        (least - i32::from(!self.from_one), most.max(least + 1))
    }

    /// Draws the chart.
    pub(crate) fn svg(&self) -> String {
        let rows: usize = self.sections.iter().map(|section| section.bars.len()).sum();
        let bottom = TOP + ROW * (rows as f64 + 1.5 * self.sections.len() as f64);
        let mut canvas = Canvas::new(bottom + 32.0, self.title, self.subtitle);
        let (least, most) = self.range();
        let width = WIDTH - LEFT - RIGHT;
        let at =
            |exponent: f64| LEFT + width * (exponent - f64::from(least)) / f64::from(most - least);
        for exponent in least..=most {
            let x = at(f64::from(exponent));
            let stroke = if self.from_one && exponent == 0 { "#0f172a" } else { "#e2e8f0" };
            canvas.line((x, TOP), (x, bottom), stroke);
            let name = (self.tick)(self.step.powi(exponent));
            canvas.text((x, bottom + 16.0), "middle", "#475569", &name);
        }
        let begin = if self.from_one { at(0.0) } else { LEFT };
        let mut y = TOP;
        for section in &self.sections {
            canvas.heading(y + 1.1 * ROW, 12, &section.title);
            y += 1.5 * ROW;
            for bar in &section.bars {
                let end = at(bar.value.max(f64::MIN_POSITIVE).log(self.step));
                let size = ((end - begin).abs().max(1.0), ROW - 6.0);
                canvas.rect((begin.min(end), y + 3.0), size, bar.tone.colour());
                canvas.text((LEFT - 8.0, y + 14.0), "end", "#0f172a", &bar.label);
                canvas.text((WIDTH - RIGHT + 12.0, y + 14.0), "start", "#0f172a", &bar.text);
                y += ROW;
            }
        }
        canvas.finish()
    }
}

/// Lines over a linear scale that begins at 0.
#[derive(Debug)]
pub(crate) struct Lines<'a> {
    pub(crate) title: &'a str,
    pub(crate) subtitle: &'a str,
    /// What the axes mean.
    pub(crate) axes: (&'a str, &'a str),
    pub(crate) series: Vec<Series>,
}

#[derive(Debug)]
pub(crate) struct Series {
    pub(crate) name: String,
    pub(crate) tone: Tone,
    pub(crate) points: Vec<(f64, f64)>,
}

/// Returns the distance of the lines of a grid up to `most`: 1, 2 or 5 times a power of 10.
pub(crate) fn grid(most: f64) -> f64 {
    let rough = most.max(f64::MIN_POSITIVE) / 6.0;
    let power = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0].into_iter().find(|step| step * power >= rough);
    step.unwrap_or(10.0) * power
}

impl Lines<'_> {
    /// Draws the chart.
    pub(crate) fn svg(&self) -> String {
        const HEIGHT: f64 = 420.0;
        const EDGES: (f64, f64, f64, f64) = (64.0, WIDTH - 24.0, 80.0, HEIGHT - 48.0);
        let (left, right, top, bottom) = EDGES;
        let points = || self.series.iter().flat_map(|series| &series.points);
        let most = points()
            .fold((0.0, 0.0), |most: (f64, f64), point| (most.0.max(point.0), most.1.max(point.1)));
        let (across, up) = (grid(most.0), grid(most.1));
        let most = (most.0.max(across), (most.1 / up).ceil().max(1.0) * up);
        let place = |(x, y): (f64, f64)| {
            (left + (right - left) * x / most.0, bottom - (bottom - top) * y / most.1)
        };
        let mut canvas = Canvas::new(HEIGHT, self.title, self.subtitle);
        for line in 0..=(most.1 / up).round() as u32 {
            let y = place((0.0, f64::from(line) * up)).1;
            canvas.line((left, y), (right, y), "#e2e8f0");
            let name = trim(f64::from(line) * up);
            canvas.text((left - 8.0, y + 4.0), "end", "#475569", &name);
        }
        for line in 0..=(most.0 / across).floor() as u32 {
            let x = place((f64::from(line) * across, 0.0)).0;
            canvas.line((x, bottom), (x, bottom + 4.0), "#475569");
            let name = trim(f64::from(line) * across);
            canvas.text((x, bottom + 18.0), "middle", "#475569", &name);
        }
        canvas.text((left, top - 12.0), "end", "#475569", self.axes.1);
        canvas.text((right, bottom + 36.0), "end", "#475569", self.axes.0);
        for (index, series) in self.series.iter().enumerate() {
            let x = left + 40.0 + 220.0 * index as f64;
            canvas.rect((x, top - 22.0), (20.0, 10.0), series.tone.colour());
            canvas.text((x + 28.0, top - 12.0), "start", "#0f172a", &series.name);
            let places = series.points.iter().map(|point| place(*point));
            let path: Vec<_> = places.map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
            let _ = writeln!(
                canvas.0,
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"2\"/>",
                path.join(" "),
                series.tone.colour()
            );
        }
        canvas.finish()
    }
}

/// Formats a number of a grid without needless digits.
fn trim(number: f64) -> String {
    let text = format!("{number:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
