//! Threads that wait for the next piece of work without going to sleep.

use std::hint;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rayon::Yield;

/// Threads kept awake: a step that is so short that waking them matters has no work for more.
const MOST: usize = 3;

/// Looks for work, of some 0.2 µs each, before a thread goes to sleep after all: about a millisecond.
const PATIENCE: u32 = 4096;

/// While it lives, some threads of the pool it is made in look for work all the time. A sleeping thread takes longer
/// to wake than a small head's whole step. They sleep as usual once there was none for about a millisecond.
pub(super) struct Awake {
    done: Arc<AtomicBool>,
}

impl Awake {
    pub fn new() -> Self {
        let done = Arc::new(AtomicBool::new(false));
        if let Some(own) = rayon::current_thread_index() {
            let done = done.clone();
            // Broadcast jobs are of one thread each: no other takes them over and waits in their stead.
            rayon::spawn_broadcast(move |context| {
                let threads = context.num_threads();
                let behind = (context.index() + threads - own) % threads;
                if (1..=MOST).contains(&behind) {
                    look_for_work(&done);
                }
            });
        }
        Self { done }
    }
}

impl Drop for Awake {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Relaxed);
    }
}

fn look_for_work(done: &AtomicBool) {
    let mut idle = 0;
    while idle < PATIENCE && !done.load(Ordering::Relaxed) {
        match rayon::yield_now() {
            Some(Yield::Executed) => idle = 0,
            _ => {
                idle += 1;
                (0..4).for_each(|_| hint::spin_loop());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rayon::prelude::*;

    use super::*;

    #[test]
    fn a_pool_works_as_ever_while_its_threads_are_awake() {
        let sums_alone: Vec<u64> = (0..200).map(|n| (0..n).map(|i| i * i).sum()).collect();
        for threads in [1, 2, 7] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let sums: Vec<u64> = pool.install(|| {
                let _awake = Awake::new();
                (0..200).map(|n| (0..n).into_par_iter().map(|i| i * i).sum()).collect()
            });
            assert_eq!(sums, sums_alone);
        }
        // Outside of a pool there is nobody to keep awake.
        drop(Awake::new());
    }
}
