/* complete.c - the smallest useful program over libmtp: completes a prompt greedily.
 *
 *     cc complete.c $(pkg-config --cflags --libs libmtp) -o complete
 *     ./complete model.gguf "It is a truth universally acknowledged, that"
 */
#include <mtp.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_TOKENS = 32 };

/* Feeds the prompt, then every token drawn, until the model ends or MAX_TOKENS were written. */
static enum mtp_status complete(mtp_model *model, mtp_session *session, mtp_decoder *decoder,
                                const char *prompt, struct mtp_error *error)
{
    const struct mtp_sampling greedy = {.temperature = 0.0f, .top_p = 1.0f};
    int32_t *ids = NULL;
    size_t n_ids = 0;
    enum mtp_status status =
        mtp_tokenize(model, prompt, strlen(prompt), MTP_TEXT_PLAIN, &ids, &n_ids, error);
    if (status == MTP_OK)
        status = mtp_session_append(session, ids, n_ids, error);
    free(ids);
    for (int i = 0; status == MTP_OK && i < MAX_TOKENS; i++) {
        int32_t id;
        status = mtp_session_sample(session, &greedy, &id, error);
        if (status != MTP_OK || mtp_token_is_end(model, id))
            break;
        size_t length;
        const char *text = mtp_decoder_push(decoder, id, &length);
        fwrite(text, 1, length, stdout);
        status = mtp_session_append(session, &id, 1, error);
    }
    size_t length;
    const char *text = mtp_decoder_flush(decoder, &length);
    fwrite(text, 1, length, stdout);
    putchar('\n');
    return status;
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: complete MODEL.gguf PROMPT\n");
        return MTP_ERR_USAGE;
    }
    struct mtp_error error = {.status = MTP_OK};
    const struct mtp_model_options model_options = {0};
    const struct mtp_session_options session_options = {.n_ctx = 512};
    mtp_model *model = NULL;
    mtp_session *session = NULL;
    mtp_decoder *decoder = NULL;

    enum mtp_status status = mtp_model_open(&model, argv[1], &model_options, &error);
    if (status == MTP_OK)
        status = mtp_session_open(&session, model, &session_options, &error);
    if (status == MTP_OK)
        status = mtp_decoder_open(&decoder, model, &error);
    if (status == MTP_OK)
        status = complete(model, session, decoder, argv[2], &error);
    if (status != MTP_OK)
        fprintf(stderr, "complete: %s\n", error.message);

    mtp_decoder_close(decoder);
    mtp_session_close(session);
    mtp_model_close(model);
    return (int)status;
}
