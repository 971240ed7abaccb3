//! Batches on their way through an engine: while some run, one on each of its parts, the next ones are made and the
//! finished ones are stored.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};

use crate::base::{Error, Result};
use crate::engine::{Engine, run_on};
use crate::sample::pipeline::Batch;

/// A batch that has been run.
pub struct Done {
    /// What went in.
    pub batch: Batch,
    /// What came out, of each of the engine's outputs; nothing where the batch has no samples.
    pub outputs: Vec<Vec<f32>>,
}

/// The way in and out.
pub struct Pump {
    sender: SyncSender<(u64, Batch)>,
    results: Receiver<(u64, Result<Done>)>,
    /// What came back before its turn.
    early: BTreeMap<u64, Result<Done>>,
    sent: u64,
    taken: u64,
    /// Whether batches that wait are dropped.
    stopped: Arc<AtomicBool>,
}

/// Lets `body` send batches through an engine.
///
/// # Errors
/// Those of `body`.
pub fn with_engine<T>(engine: &mut dyn Engine, body: impl FnOnce(&mut Pump) -> Result<T>) -> Result<T> {
    let mut parts = engine.parts();
    if parts.is_empty() {
        drop(parts);
        return with_parts(vec![engine], body);
    }
    with_parts(parts.iter_mut().map(|part| &mut **part).collect(), body)
}

fn with_parts<T>(parts: Vec<&mut (dyn Engine + '_)>, body: impl FnOnce(&mut Pump) -> Result<T>) -> Result<T> {
    // One batch waits for each part, so that none waits for a batch.
    let (sender, queue) = mpsc::sync_channel(parts.len());
    let (result_sender, results) = mpsc::channel();
    let (queue, stopped) = (Mutex::new(queue), Arc::new(AtomicBool::new(false)));
    std::thread::scope(|scope| {
        for part in parts {
            let (queue, stopped, results) = (&queue, &*stopped, result_sender.clone());
            scope.spawn(move || work(part, queue, stopped, &results));
        }
        // The threads have theirs: with the last of them the results end.
        drop(result_sender);
        let mut pump = Pump { sender, results, early: BTreeMap::new(), sent: 0, taken: 0, stopped: stopped.clone() };
        body(&mut pump)
    })
}

fn work(
    engine: &mut dyn Engine,
    queue: &Mutex<Receiver<(u64, Batch)>>,
    stopped: &AtomicBool,
    results: &mpsc::Sender<(u64, Result<Done>)>,
) {
    loop {
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok((number, batch)) = next else { return };
        let mut outputs = vec![Vec::new(); engine.outputs().len()];
        let outcome = match batch.indices.is_empty() {
            _ if stopped.load(Ordering::Relaxed) => Err(Error::Interrupted),
            true => Ok(()),
            // A thread that is gone would be waited for.
            false => catch_unwind(AssertUnwindSafe(|| run_on(engine, &batch.inputs, &mut outputs)))
                .unwrap_or_else(|_| Err(Error::failed("the engine gave up"))),
        };
        if results.send((number, outcome.map(|()| Done { batch, outputs }))).is_err() {
            return;
        }
    }
}

impl Pump {
    /// Sends a batch on its way, and gives those that are done to `take`, in the order in which they were sent.
    ///
    /// # Errors
    /// Those of the engine for an earlier batch, and of `take`.
    pub fn push(&mut self, batch: Batch, mut take: impl FnMut(Done) -> Result<()>) -> Result<()> {
        self.sender.send((self.sent, batch)).map_err(|_| ended())?;
        self.sent += 1;
        while let Ok((number, done)) = self.results.try_recv() {
            self.early.insert(number, done);
        }
        self.give(&mut take)
    }

    /// Waits for all that is on its way.
    ///
    /// # Errors
    /// Those of [`Self::push`].
    pub fn drain(&mut self, mut take: impl FnMut(Done) -> Result<()>) -> Result<()> {
        while self.taken < self.sent {
            let (number, done) = self.results.recv().map_err(|_| ended())?;
            self.early.insert(number, done);
            self.give(&mut take)?;
        }
        Ok(())
    }

    /// Waits for what runs, for whoever has an error at hand; what waits for its turn is dropped.
    pub fn stop(&mut self, take: impl FnMut(Done) -> Result<()>) {
        self.stopped.store(true, Ordering::Relaxed);
        let _ = self.drain(take);
    }

    fn give(&mut self, take: &mut impl FnMut(Done) -> Result<()>) -> Result<()> {
        while let Some(done) = self.early.remove(&self.taken) {
            self.taken += 1;
            take(done?)?;
        }
        Ok(())
    }
}

fn ended() -> Error {
    Error::failed("a thread of the engine ended early")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::engine::{InputTensor, Port};
    use crate::sample::{Tensor, Values};

    /// Doubles; the first part is slow, and 13 is an error.
    struct Double {
        ports: Vec<Port>,
        parts: u64,
        pause: u64,
    }

    impl Double {
        fn new(parts: u64) -> Self {
            Self { ports: vec![Port { name: "x".into(), row_shape: vec![Some(1)] }], parts, pause: 0 }
        }
    }

    impl Engine for Double {
        fn inputs(&self) -> &[Port] {
            &self.ports
        }

        fn outputs(&self) -> &[Port] {
            &self.ports
        }

        fn run(&mut self, inputs: &[InputTensor<'_>], outputs: &mut [Vec<f32>]) -> Result<()> {
            std::thread::sleep(Duration::from_millis(self.pause));
            let InputTensor::F32 { data, .. } = inputs[0] else { unreachable!("it is f32") };
            if data.contains(&13.0) {
                return Err(Error::failed("unlucky"));
            }
            outputs[0] = data.iter().map(|x| x * 2.0).collect();
            Ok(())
        }

        fn parts(&mut self) -> Vec<Box<dyn Engine + '_>> {
            let part = |number| Double { pause: 3 * (self.parts - 1 - number), ..Self::new(0) };
            (0..self.parts).map(|number| Box::new(part(number)) as Box<dyn Engine + '_>).collect()
        }
    }

    fn batch(value: u64) -> Batch {
        let inputs = vec![Tensor { name: "x".into(), shape: vec![1, 1], data: Values::F32(vec![value as f32]) }];
        let indices = if value == 7 { Vec::new() } else { vec![value as usize] };
        Batch { indices, digests: Vec::new(), inputs, failed: Vec::new() }
    }

    fn run(parts: u64, values: std::ops::Range<u64>) -> Result<Vec<f32>> {
        let mut seen = Vec::new();
        let mut take = |done: Done| {
            seen.push(done.outputs[0].first().copied().unwrap_or(-1.0));
            Ok(())
        };
        with_engine(&mut Double::new(parts), |pump| {
            values.into_iter().try_for_each(|value| pump.push(batch(value), &mut take))?;
            pump.drain(&mut take)
        })?;
        Ok(seen)
    }

    #[test]
    fn batches_come_back_in_order_from_any_number_of_parts() {
        for parts in [0, 1, 2, 3] {
            let seen = run(parts, 0..12).unwrap();
            let wanted: Vec<f32> = (0..12).map(|value| if value == 7 { -1.0 } else { 2.0 * value as f32 }).collect();
            assert_eq!(seen, wanted, "{parts}");
        }
    }

    #[test]
    fn what_runs_is_kept_when_the_rest_is_dropped() {
        let mut seen = Vec::new();
        let mut engine = Double { pause: 50, ..Double::new(0) };
        let stopped = with_engine(&mut engine, |pump| {
            let mut take = |done: Done| {
                seen.push(done.outputs[0][0]);
                Ok(())
            };
            // The third waits until the first has been run.
            (1..4).try_for_each(|value| pump.push(batch(value), &mut take))?;
            pump.stop(&mut take);
            Err::<(), _>(Error::Interrupted)
        });
        assert!(matches!(stopped, Err(Error::Interrupted)));
        assert!(seen.starts_with(&[2.0]) && seen.len() < 3, "{seen:?}");
    }

    #[test]
    fn an_error_of_the_engine_ends_it() {
        for parts in [0, 2] {
            assert_eq!(run(parts, 0..40).unwrap_err().to_string(), "unlucky");
        }
    }
}
