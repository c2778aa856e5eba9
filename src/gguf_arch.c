/* Is this file a language model that we know? */
#include "gguf.h"

#include <string.h>

#include "gguf_internal.h"

static bool equals(struct gguf_string string, const char *text)
{
    return string.length == strlen(text) && memcmp(string.data, text, string.length) == 0;
}

/* What a file that is no language model is, by its architecture or general.type, or NULL. */
static const char *other_kind(struct gguf_string name)
{
    if (equals(name, "clip") || equals(name, "mmproj"))
        return "a multimodal projector (mmproj), which turns images or sound into embeddings, and "
               "not a language model; open the model that it belongs to";
    if (equals(name, "adapter"))
        return "an adapter (LoRA) and not a model";
    if (equals(name, "imatrix"))
        return "an importance matrix for quantisation and not a model";
    if (equals(name, "controlvector"))
        return "a control vector and not a model";
    return NULL;
}

static void list_names(const char *const *names, size_t n, char *text, size_t size)
{
    size_t used = 0;
    text[0] = '\0';
    for (size_t i = 0; i < n && used < size; i++)
        used += (size_t)snprintf(text + used, size - used, "%s%s", i == 0 ? "" : ", ", names[i]);
}

enum mtp_status gguf_check_architecture(const struct gguf *file, const char *const *supported,
                                        size_t n, struct gguf_string *arch,
                                        struct mtp_error *error)
{
    const char *const label = file->parts[0].label;
    struct gguf_string kind = {"", 0};
    struct gguf_string name = {"", 0};
    bool found;
    enum mtp_status status = gguf_find_string(file, "general.type", &kind, &found, error);
    if (status != MTP_OK)
        return status;
    const char *what = other_kind(kind);
    if (what != NULL)
        return mtp_fail(error, MTP_ERR_UNSUPPORTED, "%s is %s", label, what);
    status = gguf_find_string(file, "general.architecture", &name, NULL, error);
    if (status != MTP_OK)
        return status;
    what = other_kind(name);
    if (what != NULL)
        return mtp_fail(error, MTP_ERR_UNSUPPORTED, "%s is %s", label, what);
    for (size_t i = 0; i < n; i++) {
        if (equals(name, supported[i])) {
            *arch = name;
            return MTP_OK;
        }
    }
    char list[256];
    list_names(supported, n, list, sizeof list);
    return mtp_fail(error, MTP_ERR_UNSUPPORTED,
                    "%s: key 'general.architecture' is '%.*s', which is not supported "
                    "(supported: %s)", label, GGUF_SHOW(name), list);
}
