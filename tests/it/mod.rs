mod pip;
mod ranks;
mod runtime;
