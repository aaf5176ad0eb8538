// Package cdr writes and reads the serialized form of ROS 2 messages: PLAIN_CDR, the XCDR version 1 encoding of DDS-XTypes 1.3, clause 7.4.
//
// A payload is a 4-byte encapsulation header (RTPS 2.5, clause 10.2: representation, options) and the message. Every number is aligned to its size, at
// most 8, counted from behind the header. A string is a u32 length that counts its NUL, the bytes and the NUL; a sequence is a u32 count and
// the elements; an array is the elements alone. A message without fields is one zero byte, since IDL knows no empty structure.
//
// What is written is little endian. What is read may be either. Input is hostile: a length is believed only as far as the rest of the input can back
// it, the first error sticks, and what follows it reads as zero. Nothing panics.
//
// Marshalling into a buffer that is large enough allocates nothing, nor does unmarshalling into a message that was used before: slices are
// reused and a string that did not change is kept. Wide strings are the exception: they allocate.
package cdr
