/* Parses the command line of `tierbench replay`; every mistake is told in one line on stderr. */
#include "replay_options.h"

#include <stdio.h>
#include <string.h>

static const struct option_entry entries[] = {
#define X(type, field, text_default, least, most, help)                                            \
    {OPTION_##type, #field, offsetof(struct replay_options, source.field), text_default, least,    \
     most,          help},
    SOURCE_OPTIONS(X)
#undef X
#define X(type, field, text_default, least, most, help)                                            \
    {OPTION_##type, #field, offsetof(struct replay_options, field), text_default, least,           \
     most,          help},
        REPLAY_OPTIONS(X)
#undef X
};

static const struct option_table table = {
    .usage = "usage: tierbench replay --http URL[,URL]... [--OPTION VALUE]... [TRACE]\n"
             "\n"
             "Sends the load of `tierbench run` to a running cluster over HTTP/2: Zipf's law or a\n"
             "trace. Requests go round the nodes; redirects to the leader are followed and\n"
             "remembered. Ends with 1 if an answer was wrong or none came at all.\n",
    .entries = entries,
    .n = sizeof(entries) / sizeof(entries[0]),
};

static int refuse(const char *option, const char *text, const char *why)
{
    fprintf(stderr, "tierbench: --%s %s: %s\n", option, text, why);
    return -1;
}

static int split_addresses(struct replay_options *options)
{
    for (const char *text = options->http; *text != '\0';) {
        char url[H2_ADDRESS_BYTES * 2];
        size_t length = strcspn(text, ",");
        if (options->n_addresses == REPLAY_TARGETS_MAX)
            return refuse("http", options->http, "too many");
        snprintf(url, sizeof(url), "%.*s", (int)length, text);
        if (length >= sizeof(url) ||
            h2_address_parse(url, options->addresses[options->n_addresses]) != 0)
            return refuse("http", options->http, "something like http://host:8091 is wanted");
        options->n_addresses++;
        text += length + (text[length] == ',');
    }
    return options->n_addresses > 0 ? 0 : refuse("http", "", "the address of a node is wanted");
}

static int complete(struct replay_options *options)
{
    static const char *const levels[] = {"default", "consistent", "stale"};
    bool found = false;

    for (size_t i = 0; i < sizeof(levels) / sizeof(levels[0]); i++) {
        if (strcmp(options->level, levels[i]) == 0) {
            options->level_kind = (enum replay_level)i;
            found = true;
        }
    }
    if (!found)
        return refuse("level", options->level, "default, consistent or stale");
    options->json = strcmp(options->format, "json") == 0;
    if (!options->json && strcmp(options->format, "table") != 0)
        return refuse("format", options->format, "table or json");
    return split_addresses(options);
}

int replay_options_parse(struct replay_options *options, int argc, char **argv)
{
    *options = (struct replay_options){0};
    int parsed = options_parse(&table, options, argc, argv, &options->source.trace);

    return parsed != 0 ? parsed : complete(options);
}
