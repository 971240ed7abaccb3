mod cache;
mod fetch;
mod hub;
mod pip;
mod ranks;
mod runtime;
