//! The pictures of a run on masks: how its classes do, pixel by pixel, and the pictures that went worst.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::base::Result;
use crate::graph::Weights;
use crate::report::Run;
use crate::report::evaluation::{ClassOfPixels, Pixels};
use crate::report::examples::Example;
use crate::run::resolve::Resolved;
use crate::run::targets::Seen;
use crate::run::training::Training;
use crate::sample::image::mask::VOID;
use crate::sample::image::{ImagePreprocess, Preprocessor, jpeg};

/// The longer side of a picture in pixels, with its mask and its prediction beside it.
const SIDE: u32 = 480;

/// Puts the pixels of the split that is judged by onto a page, with the pictures of it that went worst.
///
/// # Errors
/// Those of the cache.
pub fn show(run: &mut Run, resolved: &Resolved, training: &Training, (weights, most): (&Weights, usize)) -> Result<()> {
    let judged = training.splits().into_iter().rev().find(|(_, rows)| !rows.is_empty());
    let Some((split, _)) = judged else { return Ok(()) };
    let Some((measured, rows)) = training.of_samples(weights, split)? else { return Ok(()) };
    let names = &resolved.plan.classes;
    let of_class = |(name, class): (&String, &crate::run::targets::PerClass)| {
        ClassOfPixels::new(name, (class.there, class.found, class.right))
    };
    let classes = names.iter().zip(&measured.classes).map(of_class).collect();
    run.pixels.push(Pixels { split: split.into(), classes });
    let Some(steps) = resolved.plan.plan.model.backbone.preprocess.image() else { return Ok(()) };
    for (seen, row) in measured.worst.iter().zip(rows).take(most) {
        let origin = resolved.dataset.rows[row].origin.to_string();
        let predicted = format!("{:.1} % of pixels right", seen.right * 100.0);
        let label = present(names, &seen.truth);
        let (split, probability, label_probability) = (split.to_string(), None, None);
        run.worst.push(Example { row, origin, split, label, predicted, probability, label_probability });
        // A picture that cannot be read any more is only named.
        if let Some(jpeg) = overlaid(resolved, steps, row, seen) {
            run.thumbnails.insert(row, format!("data:image/jpeg;base64,{}", STANDARD.encode(jpeg)));
        }
    }
    Ok(())
}

/// The classes that a mask has.
fn present(names: &[String], mask: &[u8]) -> String {
    let there = names.iter().zip(0..=u8::MAX).filter(|(_, class)| mask.contains(class));
    there.map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ")
}

/// A picture as the network sees it, then with its mask and with what was found over it, side by side.
fn overlaid(resolved: &Resolved, steps: &ImagePreprocess, row: usize, seen: &Seen) -> Option<Vec<u8>> {
    let [_, height, width] = steps.output_shape();
    let whole = ImagePreprocess { scale: 1.0, mean: [0.0; 3], std: [1.0; 3], ..steps.clone() };
    let sample = resolved.dataset.rows.get(row)?.samples.iter().next()?;
    let (mut bytes, mut planes) = (Vec::new(), vec![0.0; 3 * height * width]);
    sample.read(&mut bytes).ok()?;
    Preprocessor::new(&whole).apply(&bytes, &sample.encoding, &mut planes).ok()?;
    let [rows, columns] = seen.size;
    let mut pixels = Vec::with_capacity(9 * height * width);
    for y in 0..height {
        for panel in [None, Some(&seen.truth), Some(&seen.found)] {
            for x in 0..width {
                let class = panel.map_or(VOID, |classes| classes[y * rows / height * columns + x * columns / width]);
                let mixed = color(class).map(|color| color.map(|value| 0.5 * value));
                for (c, plane) in planes.chunks_exact(height * width).enumerate() {
                    let value = plane[y * width + x];
                    pixels.push(mixed.map_or(value, |mixed| 0.5 * value + mixed[c]) as u8);
                }
            }
        }
    }
    jpeg(3 * width as u32, height as u32, pixels, SIDE).ok()
}

/// The colour of a class: hues by the golden angle, so that neighbours differ; none for void.
fn color(class: u8) -> Option<[f32; 3]> {
    if class == VOID {
        return None;
    }
    let hue = (f32::from(class) * 0.618_034 + 0.58).fract() * 6.0;
    Some([5.0, 3.0, 1.0].map(|shift| {
        let k = (shift + hue).rem_euclid(6.0);
        255.0 * (1.0 - k.min(4.0 - k).clamp(0.0, 1.0))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_have_colours_of_their_own() {
        let all: Vec<[f32; 3]> = (0..20).map(|class| color(class).unwrap()).collect();
        assert!((0..20).all(|i| (0..i).all(|j| all[i] != all[j])), "{all:?}");
        assert_eq!(color(VOID), None);
        assert_eq!(present(&["a".into(), "b".into()], &[1, 1, VOID]), "b");
    }
}
