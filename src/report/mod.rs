//! Rank 8: reports: one HTML page that holds its data, its pictures and its charts, and fetches nothing.
//!
//! What a page shows is a [`Report`]: plain data, gathered by `run/`. [`Report::to_html`] puts it as JSON into
//! the page beside the scripts that draw it (`page/`), under a content security policy that allows no
//! network. Numbers are computed here ([`evaluation`], [`examples`], [`projection`]), drawn there.

pub mod evaluation;
pub mod examples;
pub mod projection;
pub mod sweep;

use std::collections::BTreeMap;

use serde::Serialize;

use crate::base::{Error, Result};
use evaluation::{Evaluation, Fit, Pixels};
use examples::Example;
use projection::Projection;
use sweep::Sweep;

const PAGE: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/style.css");
/// In the order in which they build on each other.
const SCRIPTS: [&str; 4] = [
    include_str!("page/charts.js"),
    include_str!("page/run.js"),
    include_str!("page/sweep.js"),
    include_str!("page/main.js"),
];

/// All that a page shows.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The page's title.
    pub title: String,
    /// When it was made, in seconds since 1970.
    pub made_secs: u64,
    /// caft's version.
    pub caft: String,
    /// The sweeps.
    pub sweeps: Vec<Sweep>,
    /// The runs, side by side when there are several.
    pub runs: Vec<Run>,
}

/// One run.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Run {
    /// The recipe's name.
    pub name: String,
    /// The beginning of the run's id.
    pub id: String,
    /// The error that ended it, if one did.
    pub error: Option<String>,
    /// What the reader should know of what is missing below.
    pub notes: Vec<String>,
    /// The metric that it is judged by.
    pub main_metric: Option<String>,
    /// Final metrics by `split/metric`.
    pub metrics: BTreeMap<String, f64>,
    /// The values of every epoch.
    pub curves: Vec<Curve>,
    /// What it cost.
    pub cost: Cost,
    /// The engine.
    pub engine: Engine,
    /// The names of the classes, in the order of the outputs.
    pub classes: Vec<String>,
    /// What was measured on each split with rows.
    pub evaluations: Vec<Evaluation>,
    /// What was measured of the pixels of pictures.
    pub pixels: Vec<Pixels>,
    /// Predicted against true values.
    pub fits: Vec<Fit>,
    /// Wrong predictions, the surest first.
    pub confident_errors: Vec<Example>,
    /// The rows with the least probability for their label, or with the greatest loss.
    pub worst: Vec<Example>,
    /// Rows whose label is in doubt.
    pub label_issues: Vec<Example>,
    /// Small pictures of rows as `data:` addresses.
    pub thumbnails: BTreeMap<usize, String>,
    /// The beginnings of rows' texts.
    pub texts: BTreeMap<usize, String>,
    /// The features in two dimensions.
    pub projection: Option<Projection>,
    /// The recipe as it was merged, as YAML.
    pub recipe: String,
    /// Its values by key path.
    pub settings: BTreeMap<String, String>,
}

/// The values of one quantity by epoch.
#[derive(Debug, Clone, Serialize)]
pub struct Curve {
    /// Its name, such as `valid/accuracy`.
    pub name: String,
    /// Epoch and value; `None` where a value was not finite.
    pub points: Vec<(u64, Option<f64>)>,
}

/// What a run cost.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Cost {
    /// Samples that went through the backbone.
    pub computed: u64,
    /// Samples whose activations were stored before.
    pub reused: u64,
    /// Wall time of each stage in seconds.
    pub stages: BTreeMap<String, f64>,
    /// Bytes of the activations that the run reads, where it is known.
    pub bytes: Option<u64>,
}

/// What is said of an engine.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Engine {
    /// Name and value of what it is.
    pub facts: BTreeMap<String, String>,
    /// How each output agrees with the source model in fp32.
    pub parity: Vec<Parity>,
}

/// How an output agrees with its source.
#[derive(Debug, Clone, Serialize)]
pub struct Parity {
    /// The output.
    pub output: String,
    /// The cosine between all its values and the source's.
    pub cosine: f64,
    /// The largest difference of a value.
    pub max_difference: f32,
}

impl Report {
    /// The page.
    ///
    /// # Errors
    /// The data do not serialise.
    pub fn to_html(&self) -> Result<String> {
        let json = serde_json::to_string(self).map_err(|e| Error::failed("a report does not serialise").because(e))?;
        // Inside a script element nothing but `<` can end the data.
        let json = json.replace('<', "\\u003c");
        let title = escaped(&self.title);
        let parts = [
            ("{{title}}", title.as_str()),
            ("{{style}}", STYLE),
            ("{{script}}", &SCRIPTS.join("\n")),
            ("{{data}}", &json),
        ];
        Ok(filled(PAGE, &parts))
    }
}

/// The template with its places filled; what is filled in is not looked at again.
fn filled(template: &str, parts: &[(&str, &str)]) -> String {
    let mut page = String::new();
    let mut rest = template;
    loop {
        let next = parts.iter().filter_map(|(place, text)| Some((rest.find(place)?, place.len(), text))).min();
        let Some((at, length, text)) = next else { return page + rest };
        page += &rest[..at];
        page += text;
        rest = &rest[at + length..];
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_the_data_ends_its_element_or_reaches_the_template() {
        let hostile = "</script><script>alert(1)</script> {{style}} <!--";
        let run = Run { name: hostile.into(), ..Run::default() };
        let report =
            Report { title: hostile.into(), made_secs: 0, caft: "0".into(), sweeps: Vec::new(), runs: vec![run] };
        let html = report.to_html().unwrap();
        assert!(!html.contains("<script>alert"));
        let json = html.split_once("id=\"data\">").unwrap().1.split_once("</script>").unwrap().0;
        let data: serde_json::Value = serde_json::from_str(json).unwrap();
        assert_eq!(data["runs"][0]["name"], hostile);
        assert!(html.contains("<title>&lt;/script&gt;"));
    }

    #[test]
    fn the_page_names_no_other_host_but_the_svg_namespace() {
        for part in SCRIPTS.iter().chain([&PAGE, &STYLE]) {
            let text = part.replace("http://www.w3.org/2000/svg", "");
            assert!(!text.contains("://"), "{text}");
        }
    }
}
