//! `caft search`: nearest neighbours in a file of embeddings.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use clap::ValueEnum;

use super::embed::given;
use super::predict::Written;
use super::runs::RunsDir;
use super::surroundings::Surroundings;
use super::table::Table;
use super::{Globals, print, print_json};
use crate::base::Error;
use crate::export::embeddings::{Embeddings, Format, Names};
use crate::head::Distance;
use crate::run::Predictor;
use crate::run::embed::{Layer, Taken, embed};
use crate::run::search::{Found, measure, search};

/// Find the nearest neighbours of pictures, texts or embeddings in a file that `caft embed` wrote, exactly.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The embeddings to search in.
    index: PathBuf,
    /// Pictures, folders or texts, which are embedded as the index was; names of rows of the index; or another file of
    /// embeddings.
    #[arg(required_unless_present = "measure")]
    queries: Vec<String>,
    /// Measure retrieval in place of listing neighbours: recall at 1, 5 and 10, mean average precision at R, NDCG at 10.
    /// What belongs together are rows of one label, or of one id where there are no labels; without queries every row
    /// looks for the others.
    #[arg(long, conflicts_with_all = ["top", "others", "format"])]
    measure: bool,
    /// The run that embeds the queries; by default the one that made the index.
    #[arg(long)]
    run: Option<String>,
    /// Embed the queries as this field of a row, by the backbone that it has of its own, to search across towers: texts
    /// among pictures.
    #[arg(long)]
    field: Option<String>,
    /// How many neighbours of each.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    top: u32,
    /// What near means.
    #[arg(long, value_enum, default_value_t = MetricArg::Cosine)]
    metric: MetricArg,
    /// Pass over rows of the same name as the query.
    #[arg(long)]
    others: bool,
    /// How neighbours are written.
    #[arg(long, value_enum, default_value_t = Written::Table)]
    format: Written,
    /// Never touch the network: use what was fetched before.
    #[arg(long)]
    offline: bool,
    #[command(flatten)]
    place: RunsDir,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum MetricArg {
    /// The cosine; more is nearer.
    Cosine,
    /// The Euclidean distance; less is nearer.
    L2,
}

impl Args {
    /// Prints the neighbours of every query, the nearest first.
    ///
    /// # Errors
    /// The index cannot be read, or a query cannot be embedded.
    pub fn run(&self, globals: &Globals) -> Result<ExitCode> {
        let index = Embeddings::read(&self.index)?;
        let metric = match self.metric {
            MetricArg::Cosine => Distance::Cosine,
            MetricArg::L2 => Distance::L2,
        };
        if self.measure {
            let queries = if self.queries.is_empty() { None } else { Some(self.embedded(&index, globals)?) };
            let measured = measure(&index, queries.as_ref(), metric)?;
            if globals.json {
                print_json(&measured)?;
            } else {
                let mut text = format!("{} queries look for rows of their {}\n", measured.queries, measured.by);
                measured.metrics.iter().for_each(|(name, value)| text += &format!("  {name} {value:.4}\n"));
                print(&text)?;
            }
            return Ok(ExitCode::SUCCESS);
        }
        let queries = self.embedded(&index, globals)?;
        let found = search(&index, &queries, metric, self.top as usize, self.others)?;
        match self.format {
            _ if globals.json => print_json(&found)?,
            Written::Table => print(&table(&found, self.metric))?,
            Written::Csv => {
                let mut out = csv::Writer::from_writer(Vec::new());
                out.write_record(["query", "rank", "id", "label", "score"])?;
                for one in &found {
                    let (rank, score) = (one.rank.to_string(), one.score.to_string());
                    out.write_record([&one.query, &rank, &one.id, one.label.as_deref().unwrap_or_default(), &score])?;
                }
                print(&String::from_utf8(out.into_inner()?)?)?;
            }
            Written::Jsonl => {
                let lines: Result<Vec<String>, _> = found.iter().map(serde_json::to_string).collect();
                print(&lines?.iter().map(|line| format!("{line}\n")).collect::<String>())?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    /// The queries as embeddings.
    fn embedded(&self, index: &Embeddings, globals: &Globals) -> Result<Embeddings> {
        if let [file] = &self.queries[..]
            && Format::of(Path::new(file)).is_ok()
        {
            return Ok(Embeddings::read(Path::new(file))?);
        }
        let row = |word: &String| index.names.ids.iter().position(|id| id == word);
        if self.run.is_none()
            && self.field.is_none()
            && let Some(rows) = self.queries.iter().map(row).collect::<Option<Vec<usize>>>()
        {
            let values = rows.iter().flat_map(|&row| index.row(row).iter().copied()).collect();
            let names = Names { ids: self.queries.clone(), ..Names::default() };
            return Ok(Embeddings { width: index.width, values, names });
        }
        let run = self.run.as_deref().unwrap_or(&index.names.run);
        if run.is_empty() {
            return Err(Error::bad_input(format!("`{}` does not say which run made it", self.index.display()))
                .hint("name it with `--run`")
                .into());
        }
        let here = Surroundings::new(globals, self.offline)?;
        let context = here.context(&self.place.runs_dir);
        let mut predictor = Predictor::of(run, &context)?;
        let layers = [Layer::Cut, Layer::Neck, Layer::Head];
        let layer = layers.into_iter().find(|layer| layer.name() == index.names.layer).unwrap_or_default();
        let of_index = Some(index.names.field.as_str()).filter(|field| !field.is_empty());
        // A file of one field takes no other.
        let of_index = of_index.filter(|_| !predictor.plan().plan.model.towers.is_empty());
        let field = self.field.as_deref().or(of_index);
        let given = given(self.queries.clone(), field, &predictor)?;
        Ok(embed(&mut predictor, given, Taken { layer, field, run }, &context)?)
    }
}

fn table(found: &[Found], metric: MetricArg) -> String {
    let score = if metric == MetricArg::Cosine { "cosine" } else { "distance" };
    let mut table = Table::new(["query", "rank", "neighbour", "label", score]);
    for one in found {
        let label = one.label.clone().unwrap_or_default();
        table.row([one.query.clone(), one.rank.to_string(), one.id.clone(), label, format!("{:.4}", one.score)]);
    }
    table.to_string()
}
