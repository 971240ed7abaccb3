//! Features in two dimensions.

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::random::Stream;
use crate::graph::{Matrix, gemm};

/// How features are brought down to two dimensions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// The two directions of the largest variance: quick, and distances mean something.
    #[default]
    Pca,
    /// t-SNE of the first 50 principal components (van der Maaten and Hinton, 2008): neighbours stay
    /// neighbours, distances between groups mean little.
    Tsne,
}

/// Rows in two dimensions.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Projection {
    /// The method in words.
    pub method: String,
    /// What the two axes are.
    pub axes: [String; 2],
    /// The names of the groups that rows are coloured by.
    pub names: Vec<String>,
    /// The rows.
    pub points: Vec<Point>,
}

/// A row.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Point {
    /// The row's number in the data set.
    pub row: usize,
    /// Where it comes from.
    pub origin: String,
    /// To the right.
    pub x: f32,
    /// Upwards.
    pub y: f32,
    /// Its group: its class, its first label, or the part of the values that its value is in.
    pub class: u32,
    /// The predicted group.
    pub predicted: u32,
    /// Whether they differ.
    pub wrong: bool,
}

/// Principal components that t-SNE starts from.
const COMPONENTS: usize = 50;
/// Rounds of the subspace iteration: enough for a picture.
const ROUNDS: usize = 24;

/// The coordinates `[rows, 2]` of features `[rows, width]`, with the method in words and the axes. The same features give
/// the same coordinates.
pub fn project(method: Method, features: &[f32], width: usize) -> (Vec<[f32; 2]>, String, [String; 2]) {
    let rows = features.len() / width.max(1);
    let wanted = if method == Method::Tsne { COMPONENTS } else { 2 };
    let pca = Pca::new(features, width, wanted);
    let first_two =
        pca.scores.chunks_exact(pca.components.max(1)).map(|row| [row[0], row.get(1).copied().unwrap_or(0.0)]);
    // t-SNE needs three neighbours for each unit of its perplexity.
    let perplexity = 30.0f32.min((rows.saturating_sub(1) / 3) as f32);
    if method == Method::Pca || perplexity < 2.0 {
        let share = |i: usize| format!("component {} ({:.1} % of the variance)", i + 1, 100.0 * pca.share(i));
        return (first_two.collect(), "Principal components".into(), [share(0), share(1)]);
    }
    let samples: Vec<&[f32]> = pca.scores.chunks_exact(pca.components).collect();
    // Small beginnings, as the authors advise, of the first two components, so that nothing is drawn at random.
    let deviation = (pca.variances[0] / rows as f64).sqrt().max(1e-12) as f32;
    let initial: Vec<f32> = first_two.flatten().map(|x| x / deviation * 1e-4).collect();
    // On one thread, because its sums depend on how many share the work.
    let embed = || embedded(&samples, perplexity, initial);
    let coordinates = match rayon::ThreadPoolBuilder::new().num_threads(1).build() {
        Ok(alone) => alone.install(embed),
        Err(_) => embed(),
    };
    let method = format!("t-SNE of the first {} principal components, perplexity {perplexity}", pca.components);
    (coordinates, method, [String::new(), String::new()])
}

/// More rows than this are laid out by the Barnes–Hut approximation.
const EXACT: usize = 1000;

fn embedded(samples: &[&[f32]], perplexity: f32, initial: Vec<f32>) -> Vec<[f32; 2]> {
    let squared = |a: &&[f32], b: &&[f32]| a.iter().zip(b.iter()).map(|(a, b)| (a - b) * (a - b)).sum::<f32>();
    let mut tsne: bhtsne::tSNE<'_, f32, &[f32], 2> = bhtsne::tSNE::new(samples);
    tsne.perplexity(perplexity).initial_embedding(initial);
    if samples.len() > EXACT {
        tsne.barnes_hut(0.5, |a, b| squared(a, b).sqrt());
    } else {
        tsne.exact(squared);
    }
    tsne.embedding().chunks_exact(2).map(|p| [p[0], p[1]]).collect()
}

/// Principal components of few rows: the eigenvectors of their Gram matrix `[rows, rows]`, by subspace iteration.
struct Pca {
    /// `[rows, components]`.
    scores: Vec<f32>,
    components: usize,
    /// The sum of squares along each component.
    variances: Vec<f64>,
    total: f64,
}

impl Pca {
    fn new(features: &[f32], width: usize, components: usize) -> Self {
        let n = features.len() / width.max(1);
        let k = components.min(n).min(width);
        let centred = centred(features, width);
        let mut gram = vec![0.0f32; n * n];
        let x = Matrix::new(&centred, n, width);
        gemm(&mut gram, x, x.t(), false);
        let total = (0..n).map(|i| f64::from(gram[i * n + i])).sum();
        let stream = Stream::named(0, "report/projection");
        let mut vectors: Vec<f32> = (0..(n * k) as u64).map(|i| stream.normal(i)).collect();
        let mut next = vec![0.0f32; n * k];
        let mut variances = vec![0.0; k];
        for _ in 0..ROUNDS {
            orthonormal(&mut vectors, n, k);
            gemm(&mut next, Matrix::new(&gram, n, n), Matrix::new(&vectors, n, k), false);
            variances = (0..k)
                .map(|c| column(&next, n, k, c).zip(column(&vectors, n, k, c)).map(|(a, b)| a * b).sum())
                .collect();
            std::mem::swap(&mut vectors, &mut next);
        }
        orthonormal(&mut vectors, n, k);
        // A score is the eigenvector times the square root of the eigenvalue; the sign is that of its largest entry.
        for c in 0..k {
            let largest = column(&vectors, n, k, c).fold(0.0f64, |m, x| if x.abs() > m.abs() { x } else { m });
            let factor = (variances[c].max(0.0).sqrt() * largest.signum()) as f32;
            (0..n).for_each(|r| vectors[r * k + c] *= factor);
        }
        Self { scores: vectors, components: k, variances, total }
    }

    fn share(&self, component: usize) -> f64 {
        self.variances.get(component).map_or(0.0, |v| v / self.total.max(f64::MIN_POSITIVE))
    }
}

fn column(matrix: &[f32], rows: usize, columns: usize, c: usize) -> impl Iterator<Item = f64> + '_ {
    (0..rows).map(move |r| f64::from(matrix[r * columns + c]))
}

fn centred(features: &[f32], width: usize) -> Vec<f32> {
    let rows = (features.len() / width.max(1)).max(1) as f64;
    let mean: Vec<f64> = (0..width)
        .into_par_iter()
        .map(|c| features.iter().skip(c).step_by(width).map(|x| f64::from(*x)).sum::<f64>() / rows)
        .collect();
    features.iter().enumerate().map(|(i, x)| (f64::from(*x) - mean[i % width]) as f32).collect()
}

/// Makes the columns of `[n, k]` orthonormal (modified Gram–Schmidt); a column that depends on those before it becomes 0.
fn orthonormal(vectors: &mut [f32], n: usize, k: usize) {
    for c in 0..k {
        for before in 0..c {
            let dot: f64 = column(vectors, n, k, c).zip(column(vectors, n, k, before)).map(|(a, b)| a * b).sum();
            (0..n).for_each(|r| vectors[r * k + c] -= (dot * f64::from(vectors[r * k + before])) as f32);
        }
        let length = column(vectors, n, k, c).map(|x| x * x).sum::<f64>().sqrt();
        let factor = if length > 1e-20 { (1.0 / length) as f32 } else { 0.0 };
        (0..n).for_each(|r| vectors[r * k + c] *= factor);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three groups along a line in 8 dimensions.
    fn groups() -> Vec<f32> {
        let stream = Stream::named(1, "groups");
        (0..90 * 8).map(|i| (i / (30 * 8)) as f32 * (1 + i % 8) as f32 + 0.1 * stream.normal(i as u64)).collect()
    }

    #[test]
    fn the_first_component_is_the_line_that_groups_lie_on() {
        let (points, method, axes) = project(Method::Pca, &groups(), 8);
        assert!(method.starts_with("Principal") && axes[0].contains("99"), "{axes:?}");
        let length = (1..=8).map(|i| f64::from(i * i)).sum::<f64>().sqrt() as f32;
        let mean = |g: usize| points[g * 30..][..30].iter().map(|p| p[0]).sum::<f32>() / 30.0;
        assert!(((mean(2) - mean(1)).abs() - length).abs() < 0.2 && ((mean(1) - mean(0)).abs() - length).abs() < 0.2);
        assert!(points.iter().all(|p| p[1].abs() < 1.0));
    }

    #[test]
    fn tsne_keeps_groups_together_and_repeats_itself() {
        let (points, method, _) = project(Method::Tsne, &groups(), 8);
        assert!(method.starts_with("t-SNE"));
        assert_eq!(points, project(Method::Tsne, &groups(), 8).0);
        let squared = |a: [f32; 2], b: [f32; 2]| (a[0] - b[0]).powi(2) + (a[1] - b[1]).powi(2);
        let nearest_is_of_the_group = (0..90).filter(|&i| {
            let others = (0..90).filter(|&j| j != i);
            let nearest =
                others.min_by(|&a, &b| squared(points[i], points[a]).total_cmp(&squared(points[i], points[b])));
            nearest.unwrap() / 30 == i / 30
        });
        assert_eq!(nearest_is_of_the_group.count(), 90);
    }

    #[test]
    fn a_row_or_two_are_projected_too() {
        assert_eq!(project(Method::Tsne, &[1.0, 2.0, 3.0], 3).0.len(), 1);
        assert_eq!(project(Method::Pca, &[1.0, 5.0], 1).0.len(), 2);
    }
}
