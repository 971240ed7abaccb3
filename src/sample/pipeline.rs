//! Many samples at once: digests, and network inputs in order, made by several threads while the
//! caller works on those that are done.

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::sync::{Mutex, PoisonError};

use super::image::augment::Augment;
use super::image::decode::{self, Pixels};
use super::image::{ImagePreprocess, Preprocessor};
use super::{Encoding, Named, Ready, Sample, Source, Tensor, Values, text};
use crate::base::{Cancel, Digest, Error, KeyWriter, Problems, Result};

/// One sample to prepare, or two that are encoded as a pair.
#[derive(Debug, Clone, Copy)]
pub struct Item<'a> {
    /// The caller's number for it, such as its row.
    pub index: usize,
    /// The sample or the pair.
    pub samples: &'a [Sample],
    /// Where it comes from, for messages.
    pub origin: Named<'a>,
}

/// How [`prepare`] works.
#[derive(Debug, Clone, Copy)]
pub struct Options<'a> {
    /// Items in a batch.
    pub batch_size: usize,
    /// Threads that decode; at least one is used.
    pub threads: usize,
    /// Looked at before each sample.
    pub cancel: &'a Cancel,
    /// Whether a sample that cannot be read is left out and told in [`Batch::failed`], or ends the work.
    pub skip_bad: bool,
}

/// Prepared samples.
#[derive(Debug)]
pub struct Batch {
    /// The number of each sample.
    pub indices: Vec<usize>,
    /// The digest of the bytes each input was made of.
    pub digests: Vec<Digest>,
    /// The network's inputs, each `[indices.len(), …]`.
    pub inputs: Vec<Tensor>,
    /// Those left out, with what is wrong. A batch may hold nothing else.
    pub failed: Vec<(usize, Error)>,
}

/// The digest of a sample, or of a pair: of what one activation is made.
pub fn unit_digest(digests: &[Digest]) -> Digest {
    if let [one] = digests { *one } else { KeyWriter::new("pair").json("samples", &digests).finish() }
}

/// The memory of batches that are done with, for those that come: taking it anew from the system costs as much as
/// reading a picture.
#[derive(Debug, Default)]
pub struct Buffers(Mutex<Vec<Vec<f32>>>);

impl Buffers {
    fn take(&self) -> Vec<f32> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    /// Takes back what a batch was made in.
    pub fn give(&self, batch: Batch) {
        if let Some(Values::F32(buffer)) = batch.inputs.into_iter().next().map(|tensor| tensor.data) {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(buffer);
        }
    }
}

/// Prepares samples and gives them to `consume`, on the calling thread, batch by batch: pictures in the order of
/// the items, texts by length. The results do not depend on the number of threads or on the batches.
///
/// # Errors
/// A bad sample with its origin, unless they are skipped; what `consume` returns; [`Error::Interrupted`].
pub fn prepare(
    items: &[Item<'_>],
    ready: &Ready,
    options: &Options<'_>,
    mut consume: impl FnMut(&Batch) -> Result<()>,
) -> Result<()> {
    let buffers = Buffers::default();
    stream(items, ready, options, &buffers, |batch| {
        consume(&batch)?;
        buffers.give(batch);
        Ok(())
    })
}

/// As [`prepare`], for a consumer that keeps batches while the next ones are made; it gives them back to `buffers`.
///
/// # Errors
/// Those of [`prepare`].
pub fn stream(
    items: &[Item<'_>],
    ready: &Ready,
    options: &Options<'_>,
    buffers: &Buffers,
    consume: impl FnMut(Batch) -> Result<()>,
) -> Result<()> {
    flow(&mut Fixed { items: Some(items), consume }, ready, options, buffers)
}

/// Where items come from, and where batches of them go; both on one thread.
pub trait Flow<'a> {
    /// The next items, as many as come together: what is a batch is theirs alone. `None` at the end.
    ///
    /// # Errors
    /// They end the work.
    fn items(&mut self) -> Result<Option<Vec<Item<'a>>>>;

    /// Takes a batch.
    ///
    /// # Errors
    /// They end the work.
    fn take(&mut self, batch: Batch) -> Result<()>;
}

/// Items that are known beforehand.
struct Fixed<'i, 'a, F> {
    items: Option<&'i [Item<'a>]>,
    consume: F,
}

impl<'a, F: FnMut(Batch) -> Result<()>> Flow<'a> for Fixed<'_, 'a, F> {
    fn items(&mut self) -> Result<Option<Vec<Item<'a>>>> {
        Ok(self.items.take().map(<[Item<'a>]>::to_vec))
    }

    fn take(&mut self, batch: Batch) -> Result<()> {
        (self.consume)(batch)
    }
}

/// As [`stream`], for items that come while others are prepared.
///
/// # Errors
/// Those of [`prepare`] and of the flow.
pub fn flow<'a>(flow: &mut impl Flow<'a>, ready: &Ready, options: &Options<'_>, buffers: &Buffers) -> Result<()> {
    match ready {
        Ready::Image(steps) => images(flow, (steps, None), options, buffers),
        Ready::View(steps, augment, number) => images(flow, (steps, Some((augment, *number))), options, buffers),
        Ready::Text(encoder) => text::flow(flow, encoder, options),
    }
}

/// Prepares images batch by batch in the order of the items, while other threads prepare the next ones. At most
/// `threads + 2` batches are ready or in work at a time, beside those that the consumer keeps.
///
/// # Errors
/// The first bad sample in the order of the items, with its origin, unless they are skipped; those of the flow;
/// [`Error::Interrupted`].
fn images<'a>(
    flow: &mut impl Flow<'a>,
    (steps, view): (&ImagePreprocess, Option<(&Augment, u32)>),
    options: &Options<'_>,
    buffers: &Buffers,
) -> Result<()> {
    steps.check()?;
    let threads = options.threads.max(1);
    let (task_sender, tasks) = mpsc::channel::<(usize, Vec<Item<'a>>)>();
    let (done_sender, done) = mpsc::channel();
    let tasks = Mutex::new(tasks);
    let work = |sender: mpsc::Sender<(usize, Result<Batch>)>| {
        let mut worker = Worker { preprocessor: Preprocessor::new(steps), bytes: Vec::new(), steps, view };
        let next = || tasks.lock().ok().and_then(|tasks| tasks.recv().ok());
        while let Some((number, items)) = next() {
            let batch = worker.batch(&items, buffers.take(), options);
            if sender.send((number, batch)).is_err() {
                break;
            }
        }
    };
    std::thread::scope(|scope| {
        // Whoever waits for a task, or has a batch to send, sees when nobody is left.
        let (task_sender, done) = (task_sender, done);
        let mut early: BTreeMap<usize, Result<Batch>> = BTreeMap::new();
        let mut waiting: VecDeque<Vec<Item<'a>>> = VecDeque::new();
        let (mut sent, mut taken, mut ended) = (0, 0, false);
        loop {
            while sent - taken < threads + 2 {
                if let Some(items) = waiting.pop_front() {
                    if sent < threads {
                        let (work, sender) = (&work, done_sender.clone());
                        scope.spawn(move || work(sender));
                    }
                    let _ = task_sender.send((sent, items));
                    sent += 1;
                } else if ended {
                    break;
                } else if let Some(items) = flow.items()? {
                    waiting.extend(items.chunks(options.batch_size.max(1)).map(<[Item<'a>]>::to_vec));
                } else {
                    ended = true;
                }
            }
            if taken == sent {
                return Ok(());
            }
            let (number, batch) = done.recv().map_err(|_| Error::failed("a decoding thread ended early"))?;
            early.insert(number, batch);
            while let Some(batch) = early.remove(&taken) {
                options.cancel.check()?;
                flow.take(batch?)?;
                taken += 1;
            }
        }
    })
}

struct Worker<'a> {
    preprocessor: Preprocessor,
    bytes: Vec<u8>,
    steps: &'a ImagePreprocess,
    view: Option<(&'a Augment, u32)>,
}

impl Worker<'_> {
    fn batch(&mut self, items: &[Item<'_>], mut data: Vec<f32>, options: &Options<'_>) -> Result<Batch> {
        let row: usize = self.steps.output_shape().iter().product();
        data.resize(items.len() * row, 0.0);
        let (mut indices, mut digests, mut failed) = (Vec::new(), Vec::new(), Vec::new());
        for item in items {
            options.cancel.check()?;
            let at = indices.len() * row;
            match self.one(item, &mut data[at..at + row]) {
                Ok(digest) => {
                    indices.push(item.index);
                    digests.push(digest);
                }
                Err(error) if options.skip_bad => failed.push((item.index, error)),
                Err(error) => return Err(error),
            }
        }
        data.truncate(indices.len() * row);
        let shape = std::iter::once(indices.len()).chain(self.steps.output_shape()).collect();
        let inputs = vec![Tensor { name: String::new(), shape, data: Values::F32(data) }];
        Ok(Batch { indices, digests, inputs, failed })
    }

    fn one(&mut self, item: &Item<'_>, out: &mut [f32]) -> Result<Digest> {
        let name = |error: Error| with_origin(error, item);
        let [sample] = item.samples else {
            return Err(name(Error::failed("a picture is prepared on its own, not with others")));
        };
        sample.read(&mut self.bytes).map_err(name)?;
        let digest = sample.digest(&self.bytes);
        let (preprocessor, bytes) = (&mut self.preprocessor, &self.bytes);
        let view = self.view.map(|(augment, number)| augment.view(&digest, number));
        let apply = || preprocessor.apply_view(bytes, &sample.encoding, view.as_ref(), out);
        // A decoder that panics on a damaged file must not take the whole run with it.
        match catch_unwind(AssertUnwindSafe(apply)) {
            Ok(result) => result.map_err(name).map(|()| digest),
            Err(_) => {
                self.preprocessor = Preprocessor::new(self.steps);
                Err(name(Error::bad_input("the picture is damaged: its decoder gave up")))
            }
        }
    }
}

/// Puts the origin, and the file where it says more, before a message.
pub(super) fn with_origin(error: Error, item: &Item<'_>) -> Error {
    match error {
        Error::BadInput { what, hint, source } => {
            let origin = item.origin.to_string();
            let file = item.samples.iter().find_map(|sample| match &sample.source {
                Source::File(path) if !path.ends_with(&origin) => Some(path.display()),
                _ => None,
            });
            let what = match file {
                Some(file) => format!("`{origin}` (`{file}`): {what}"),
                None => format!("`{origin}`: {what}"),
            };
            Error::BadInput { what, hint, source }
        }
        other => other,
    }
}

/// The digest of every item, in their order; those that cannot be read have the error. Whole files go
/// through `of_file`, which may know them already.
///
/// # Errors
/// [`Error::Interrupted`].
pub fn digests(
    items: &[Item<'_>],
    threads: usize,
    cancel: &Cancel,
    of_file: &(dyn Fn(&Path) -> Result<Digest> + Sync),
) -> Result<Vec<Result<Digest>>> {
    in_parallel(items, threads, cancel, |item, buffer| {
        let of_sample = |sample: &Sample| match &sample.source {
            Source::File(path) => of_file(path).map(|content| sample.digest_of_content(content)),
            Source::Inline(bytes) => Ok(sample.digest(bytes)),
            Source::Range { .. } => sample.read(buffer).map(|()| sample.digest(buffer)),
        };
        let digests: Result<Vec<Digest>> = item.samples.iter().map(of_sample).collect();
        digests.map(|digests| unit_digest(&digests)).map_err(|error| with_origin(error, item))
    })
}

/// Looks for samples that cannot be decoded, far quicker than decoding: headers are read, and what does not
/// end as a whole file does is decoded to be sure. Returns the bad ones with what is wrong, in order.
///
/// # Errors
/// [`Error::Interrupted`].
pub fn scan(items: &[Item<'_>], threads: usize, cancel: &Cancel) -> Result<Vec<(usize, Error)>> {
    let checked = in_parallel(items, threads, cancel, |item, buffer| {
        let looked = item.samples.iter().try_for_each(|sample| look_at(sample, buffer));
        looked.map_err(|error| (item.index, with_origin(error, item)))
    })?;
    Ok(checked.into_iter().filter_map(Result::err).collect())
}

fn look_at(sample: &Sample, buffer: &mut Vec<u8>) -> Result<()> {
    const HEAD: u64 = 64 << 10;
    const TAIL: u64 = 4 << 10;
    if sample.encoding == Encoding::Text {
        // Its encoder is quick, and sees every text before the first batch of a window is run.
        return Ok(());
    }
    let head = if sample.encoding == Encoding::Encoded { HEAD } else { 0 };
    let len = sample.read_part(0, head, buffer)?;
    if let Some(checked) = decode::raw(len, &sample.encoding) {
        return checked;
    }
    if decode::header(buffer, &sample.encoding).is_err() && len > HEAD {
        // A header may be longer, with a colour profile or a preview in it.
        sample.read(buffer)?;
    }
    decode::header(buffer, &sample.encoding)?;
    let head = buffer[..buffer.len().min(64)].to_vec();
    sample.read_part(len.saturating_sub(TAIL), TAIL, buffer)?;
    if decode::ends_well(&head, buffer, len) {
        return Ok(());
    }
    sample.read(buffer)?;
    decode::decode(buffer, &sample.encoding, &mut Pixels::default())
}

/// One error of the samples that [`scan`] found.
///
/// # Errors
/// Always, unless there is none.
pub fn refuse(bad: Vec<(usize, Error)>, of: usize) -> Result<()> {
    const MOST: usize = 20;
    let count = bad.len();
    let more = if count > MOST { format!(", of which the first {MOST}") } else { String::new() };
    let mut problems = Problems::new(format!("{count} of {of} samples cannot be read{more}"));
    for (_, error) in bad.into_iter().take(MOST) {
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
        // A damaged picture's message already has its cause.
        let cause = cause.filter(|cause| !error.to_string().contains(cause.as_str())).unwrap_or_default();
        problems.push(None, "", format!("{error}{cause}"));
    }
    problems.into_result()
}

/// A function of every item, by several threads; results in the order of the items.
pub(super) fn in_parallel<T: Send>(
    items: &[Item<'_>],
    threads: usize,
    cancel: &Cancel,
    function: impl Fn(&Item<'_>, &mut Vec<u8>) -> T + Sync,
) -> Result<Vec<T>> {
    const CHUNK: usize = 64;
    let chunks: Vec<&[Item<'_>]> = items.chunks(CHUNK).collect();
    let next = AtomicUsize::new(0);
    let work = || -> Result<Vec<(usize, Vec<T>)>> {
        let (mut buffer, mut done) = (Vec::new(), Vec::new());
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(chunk) = chunks.get(number) else { return Ok(done) };
            cancel.check()?;
            done.push((number, chunk.iter().map(|item| function(item, &mut buffer)).collect::<Vec<T>>()));
        }
    };
    let mut all = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads.clamp(1, chunks.len().max(1))).map(|_| scope.spawn(work)).collect();
        let mut all = work()?;
        for other in others {
            all.extend(other.join().map_err(|_| Error::failed("a thread ended early"))??);
        }
        Ok::<_, Error>(all)
    })?;
    all.sort_unstable_by_key(|(number, _)| *number);
    Ok(all.into_iter().flat_map(|(_, results)| results).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::image::{Filter, Resize, ResizeMode};

    fn steps() -> Ready {
        let resize = Resize { size: 2, mode: ResizeMode::Exact, filter: Filter::Bilinear, antialias: true };
        let steps = ImagePreprocess { resize: Some(resize), crop: None, scale: 1.0, mean: [0.0; 3], std: [1.0; 3] };
        Ready::Image(steps)
    }

    /// `n` grey 2×2 pictures in one file, the i-th of value i, and those in `bad` with too few bytes.
    fn samples(folder: &Path, n: usize, bad: &[usize]) -> Vec<Sample> {
        let path = folder.join("blob");
        let bytes: Vec<u8> = (0..n).flat_map(|i| [i as u8; 12]).collect();
        std::fs::write(&path, bytes).unwrap();
        let file: std::sync::Arc<Path> = path.as_path().into();
        (0..n)
            .map(|i| {
                let len = if bad.contains(&i) { 11 } else { 12 };
                let source = Source::Range { file: file.clone(), offset: 12 * i as u64, len };
                Sample { source, encoding: Encoding::PlanarRgb { width: 2, height: 2 } }
            })
            .collect()
    }

    fn items(samples: &[Sample]) -> Vec<Item<'_>> {
        let item = |(index, samples)| Item { index: index + 100, samples, origin: "row".into() };
        samples.chunks(1).enumerate().map(item).collect()
    }

    fn run(n: usize, bad: &[usize], threads: usize, skip_bad: bool) -> Result<Vec<(usize, f32)>> {
        let folder = tempfile::tempdir().unwrap();
        let samples = samples(folder.path(), n, bad);
        let cancel = Cancel::default();
        let options = Options { batch_size: 4, threads, cancel: &cancel, skip_bad };
        let mut seen = Vec::new();
        prepare(&items(&samples), &steps(), &options, |batch| {
            let data = batch.inputs[0].f32();
            assert_eq!(data.len(), batch.indices.len() * 12);
            for (at, index) in batch.indices.iter().enumerate() {
                let sample = &samples[index - 100];
                let mut bytes = Vec::new();
                sample.read(&mut bytes).unwrap();
                assert_eq!(batch.digests[at], sample.digest(&bytes));
                seen.push((*index, data[at * 12]));
            }
            seen.extend(batch.failed.iter().map(|(index, _)| (*index, f32::NAN)));
            Ok(())
        })?;
        Ok(seen)
    }

    #[test]
    fn batches_come_in_order_whatever_the_number_of_threads() {
        let expected: Vec<(usize, f32)> = (0..50).map(|i| (i + 100, i as f32)).collect();
        for threads in [0, 1, 3, 16] {
            assert_eq!(run(50, &[], threads, false).unwrap(), expected);
        }
        assert!(run(0, &[], 2, false).unwrap().is_empty());
    }

    #[test]
    fn the_first_bad_sample_ends_the_work_or_is_told_and_left_out() {
        for threads in [1, 4] {
            let error = run(50, &[33, 9], threads, false).unwrap_err();
            assert_eq!(error.to_string(), "`row`: 11 bytes, where 2×2 pixels have 12");
            let seen = run(50, &[8, 9, 10, 11, 33], threads, true).unwrap();
            assert_eq!(seen.len(), 50);
            let bad: Vec<usize> = seen.iter().filter(|(_, value)| value.is_nan()).map(|(index, _)| *index).collect();
            assert_eq!(bad, [108, 109, 110, 111, 133]);
        }
    }

    #[test]
    fn the_callers_error_and_a_cancel_end_the_work() {
        let folder = tempfile::tempdir().unwrap();
        let samples = samples(folder.path(), 100, &[]);
        let cancel = Cancel::default();
        let options = Options { batch_size: 2, threads: 3, cancel: &cancel, skip_bad: false };
        let mut count = 0;
        let error = prepare(&items(&samples), &steps(), &options, |_| {
            count += 1;
            if count == 5 { Err(Error::failed("full")) } else { Ok(()) }
        });
        assert_eq!((count, error.unwrap_err().to_string()), (5, "full".into()));
        let error = prepare(&items(&samples), &steps(), &options, |_| {
            cancel.cancel();
            Ok(())
        });
        assert!(matches!(error, Err(Error::Interrupted)));
    }

    #[test]
    fn digests_come_in_order_with_the_errors_in_place() {
        let folder = tempfile::tempdir().unwrap();
        let mut samples = samples(folder.path(), 200, &[]);
        samples.push(Sample::file(folder.path().join("none")));
        samples.push(Sample::file(folder.path().join("blob")));
        let cancel = Cancel::default();
        let one = digests(&items(&samples), 1, &cancel, &Digest::of_file).unwrap();
        let four = digests(&items(&samples), 4, &cancel, &Digest::of_file).unwrap();
        for (i, (a, b)) in one.iter().zip(&four).enumerate() {
            assert_eq!(a.as_ref().ok(), b.as_ref().ok());
            assert_eq!(a.is_err(), i == 200);
        }
        assert_eq!(one.len(), 202);
        cancel.cancel();
        assert!(matches!(digests(&items(&samples), 4, &cancel, &Digest::of_file), Err(Error::Interrupted)));
    }

    #[test]
    fn a_scan_finds_what_cannot_be_decoded_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let noise = |x: u32, y: u32| (x.wrapping_mul(2_654_435_761) ^ y.wrapping_mul(2_246_822_519)).to_le_bytes();
        let image =
            image::RgbImage::from_fn(300, 200, |x, y| image::Rgb([noise(x, y)[2], noise(y, x)[3], noise(x, x)[1]]));
        let write = |name: &str| {
            let path = folder.path().join(name);
            image.save(&path).unwrap();
            let len = std::fs::metadata(&path).unwrap().len();
            (path, len)
        };
        let mut paths = Vec::new();
        for name in ["a.png", "a.jpg", "a.bmp", "a.tiff", "a.webp", "a.gif"] {
            let (path, len) = write(name);
            let cut = folder.path().join(format!("cut_{name}"));
            std::fs::write(&cut, &std::fs::read(&path).unwrap()[..len as usize - 5000.min(len as usize / 4)]).unwrap();
            paths.extend([path, cut]);
        }
        // A JPEG by another name is a picture all the same.
        std::fs::copy(folder.path().join("a.jpg"), folder.path().join("b.png")).unwrap();
        std::fs::write(folder.path().join("empty.png"), b"").unwrap();
        paths.extend(["b.png", "empty.png", "none.png"].map(|name| folder.path().join(name)));
        let samples: Vec<Sample> = paths.into_iter().map(Sample::file).collect();
        let bad = scan(&items(&samples), 2, &Cancel::default()).unwrap();
        let found: Vec<usize> = bad.iter().map(|(index, _)| index - 100).collect();
        assert_eq!(found, [1, 3, 5, 7, 9, 11, 13, 14]);
        let error = refuse(bad, samples.len()).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().starts_with("8 of 15 samples cannot be read\n  `row` ("), "{error}");
        assert!(refuse(Vec::new(), 5).is_ok());
    }
}
