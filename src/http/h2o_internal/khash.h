/* libh2o's header of HTTP/2 connections includes klib's khash.h, which its package lacks. It is
 * included for its structs: of a table they need the name of its type, and what the header itself
 * does with one only has to compile. */
#ifndef TIERKV_HTTP_H2O_INTERNAL_KHASH_H
#define TIERKV_HTTP_H2O_INTERNAL_KHASH_H

#define khash_t(name)                     struct kh_##name
#define KHASH_MAP_INIT_INT64(name, value) struct kh_##name;

typedef unsigned int khiter_t;

#define kh_get(name, table, key) 0u
#define kh_end(table)            0u
#define kh_val(table, iterator)  NULL

#endif
