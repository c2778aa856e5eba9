/* gguf_sample.h - a small valid GGUF file with every kind of value, and a walk over all of a file:
 * shared by the tests of the reader and its fuzzer. */
#ifndef MTP_TESTS_GGUF_SAMPLE_H
#define MTP_TESTS_GGUF_SAMPLE_H

#include "gguf.h"
#include "gguf_writer.h"

/* Keys "u8".. "f64", "bool", "string", "strings", arrays and nested arrays, and four tensors:
 * "f32" {4,2}, "f16" {6}, "q8" {32,2,1,2} Q8_0, "i32" {3}. */
struct gguf_writer *gguf_sample(uint32_t version);

/* Calls every getter on every key and reads the first and last byte of every tensor, so that a
 * sanitizer sees what a user of the reader would hit. Returns a number made from all of it. */
uint64_t gguf_walk(const struct gguf *file);

#endif
