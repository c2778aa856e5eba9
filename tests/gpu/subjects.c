/* subjects.c - the models of the tree for tests on a device (ways.h). */
#include <glob.h>
#include <stdlib.h>
#include <string.h>

#include "tests/gpu/ways.h"

enum { MOST_SUBJECTS = 32, MOST_NAME = 64, RANDOM_IDS = 4096 };

static void stop(const char *what, const char *why)
{
    fprintf(stderr, "%s: %s\n", what, why);
    exit(1);
}

static char *read_text(const char *file, size_t *n)
{
    char path[4096];
    const size_t most = 1 << 20;
    char *text = malloc(most);
    snprintf(path, sizeof path, "%s/tests/data/%s", TEST_SRCDIR, file);
    FILE *stream = fopen(path, "rb");
    if (stream == NULL || text == NULL)
        stop(path, "cannot be read");
    *n = fread(text, 1, most, stream);
    fclose(stream);
    return text;
}

/* The texts one behind the other; ids like any others where the vocabulary is made up. */
static void read_ids(struct subject *subject)
{
    static const char *const files[] = {"heldout-prose.txt", "heldout-code.txt"};
    if (strstr(subject->name, "ref-") == NULL) {
        subject->n_ids = RANDOM_IDS;
        subject->ids = malloc(RANDOM_IDS * sizeof *subject->ids);
        if (subject->ids == NULL)
            stop(subject->name, "not enough memory");
        fixture_random_ids(subject->ids, RANDOM_IDS, subject->n_vocab, 3);
        return;
    }
    for (int f = 0; f < 2; f++) {
        size_t n_text, n;
        int32_t *ids;
        char *text = read_text(files[f], &n_text);
        if (mtp_tokenize(subject->model, text, n_text, 0, &ids, &n, NULL) != MTP_OK)
            stop(files[f], "cannot be tokenized");
        subject->ids = realloc(subject->ids, (subject->n_ids + n) * sizeof *ids);
        if (subject->ids == NULL)
            stop(subject->name, "not enough memory");
        memcpy(subject->ids + subject->n_ids, ids, n * sizeof *ids);
        subject->n_ids += n;
        free(ids);
        free(text);
    }
}

/* A trunk comes with the file of its draft head; that file is none by itself. */
static bool open_subject(struct subject *subject, const char *path)
{
    char companion[4096] = "";
    const char *trunk = strstr(path, "-trunk.gguf"), *base = strrchr(path, '/') + 1;
    char *name = malloc(MOST_NAME);
    if (strstr(path, "-mtp.gguf") != NULL || name == NULL) {
        free(name);
        return false;
    }
    if (trunk != NULL)
        snprintf(companion, sizeof companion, "%.*s-mtp.gguf", (int)(trunk - path), path);
    snprintf(name, MOST_NAME, "%.*s", (int)strcspn(base, "."), base);
    const struct mtp_model_options options = {.mtp_path = trunk != NULL ? companion : NULL};
    struct mtp_error error = {0};
    struct mtp_model_info info;
    *subject = (struct subject){.name = name};
    if (mtp_model_open(&subject->model, path, &options, &error) != MTP_OK)
        stop(path, error.message);
    mtp_model_get_info(subject->model, &info);
    subject->n_vocab = info.n_vocab;
    subject->drafts = mtp_model_can_draft(subject->model, NULL);
    subject->experts = subject->model->hparams.n_experts > 0;
    read_ids(subject);
    return true;
}

struct subject *subjects_open(size_t *n)
{
    struct subject *subjects = calloc(MOST_SUBJECTS, sizeof *subjects);
    glob_t files = {0};
    *n = 0;
    if (subjects == NULL || glob(TEST_SRCDIR "/models/*.gguf", 0, NULL, &files) != 0 ||
        glob(TEST_SRCDIR "/tests/golden/models/*.gguf", GLOB_APPEND, NULL, &files) != 0)
        stop(TEST_SRCDIR, "no models");
    for (size_t i = 0; i < files.gl_pathc && *n < MOST_SUBJECTS; i++)
        *n += open_subject(&subjects[*n], files.gl_pathv[i]);
    globfree(&files);
    return subjects;
}

void subjects_close(struct subject *subjects, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        mtp_model_close(subjects[i].model);
        free(subjects[i].ids);
        free((void *)(uintptr_t)subjects[i].name);
    }
    free(subjects);
}

struct subject *subject_named(struct subject *subjects, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (strncmp(subjects[i].name, name, strlen(name)) == 0)
            return &subjects[i];
    stop(name, "no such model");
    return NULL;
}
