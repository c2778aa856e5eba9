/* The table of options: data only. mtpgen_options.c reads it. */
#include "mtpgen_options.h"

#define AT(field) .offset = offsetof(struct mtpgen_options, field)
#define SESSION(field) .offset = offsetof(struct mtpgen_options, session.field)

#define OWN_SET(names, group, field, text) { names, NULL, group, KIND_SET, text, AT(field) }
#define OWN_CLEAR(names, group, field, text) { names, NULL, group, KIND_CLEAR, text, AT(field) }
#define OWN_TEXT(names, argument, group, field, text) \
    { names, argument, group, KIND_TEXT, text, AT(field) }
#define OWN_CHOICE(names, argument, group, field, text) \
    { names, argument, group, KIND_CHOICE, text, AT(field) }
#define OWN_CUSTOM(names, argument, group, function, text) \
    { names, argument, group, KIND_CUSTOM, text, .apply = function }

const struct mtpgen_option mtpgen_own_options[] = {
    OWN_TEXT("-m, --model", "FILE", GROUP_MODEL, model_path,
             "GGUF file to run (the first part of a split one)"),
    OWN_TEXT("--mtp-model", "FILE", GROUP_MODEL, mtp_path,
             "companion GGUF file that holds the MTP block only"),
    { "-c, --ctx-size", "N", GROUP_MODEL, KIND_U32,
      "positions of context; 0 = the model's, or what fits a GPU", SESSION(n_ctx), 0, 16777216 },
    OWN_CHOICE("--kv", "f16|f32", GROUP_MODEL, kv_type, "type of the KV cache; f16"),

    OWN_TEXT("-p, --prompt", "TEXT", GROUP_TEXT, prompt,
             "prompt to continue, or question to answer"),
    OWN_TEXT("-f, --file", "FILE", GROUP_TEXT, prompt_file,
             "read the prompt from FILE; - is standard input"),
    OWN_CUSTOM("-n, --predict, --n-predict", "N", GROUP_TEXT, mtpgen_apply_predict,
               "tokens to generate; -1 = until end or context"),
    OWN_CUSTOM("--stop, -r, --reverse-prompt", "TEXT", GROUP_TEXT, mtpgen_apply_stop,
               "stop before this text appears; may be repeated"),
    OWN_SET("--ignore-eos", GROUP_TEXT, ignore_eos, "go on after an end token"),
    OWN_SET("-e, --escape", GROUP_TEXT, escape, "read \\n, \\t, \\\\, \\xHH in -p as C does"),

    OWN_CUSTOM("--temp, --temperature", "T", GROUP_SAMPLING, mtpgen_apply_temperature,
               "0 = the most likely token always; 0 unless --chat"),
    { "--top-k", "N", GROUP_SAMPLING, KIND_U32, "keep the N most likely tokens; 0 = all", AT(top_k),
      0, 2147483647 },
    { "--top-p", "P", GROUP_SAMPLING, KIND_FLOAT,
      "keep the likeliest that reach P together; 1 = all", AT(top_p), 0, 1 },
    { "--min-p", "P", GROUP_SAMPLING, KIND_FLOAT,
      "keep those P times as likely as the first; 0 = all", AT(min_p), 0, 1 },
    OWN_CUSTOM("-s, --seed", "N", GROUP_SAMPLING, mtpgen_apply_seed,
               "the same seed draws the same text; 0; -1 = a new one"),

    OWN_SET("--chat, -cnv, --conversation", GROUP_CHAT, chat,
            "answer by the file's chat template; without -p line by line"),
    OWN_TEXT("-sys, --system, --system-prompt", "TEXT", GROUP_CHAT, system, "system turn"),
    OWN_TEXT("-sysf, --system-prompt-file", "FILE", GROUP_CHAT, system_file,
             "read the system turn from FILE"),
    OWN_SET("--think", GROUP_CHAT, think, "let the model think first (default)"),
    OWN_CLEAR("--no-think", GROUP_CHAT, think, "ask for the answer at once"),
    OWN_TEXT("--template, --chat-template", "chatml", GROUP_CHAT, template_name,
             "use plain ChatML instead of the file's template"),

    OWN_CUSTOM("--draft", "N|auto", GROUP_DRAFT, mtpgen_apply_draft,
               "drafts a step, 0 to 8; auto, as they pay; same text"),
    OWN_CUSTOM("--draft-source", "LIST", GROUP_DRAFT, mtpgen_apply_draft_source,
               "mtp, ngram (text seen before) or both; what there is"),
    OWN_CUSTOM("--draft-head", "auto|full|N", GROUP_DRAFT, mtpgen_apply_draft_head,
               "draft among all ids, or the first N; auto; same text"),
    OWN_CUSTOM("--strict", "[full|sample]", GROUP_DRAFT, mtpgen_apply_strict,
               "compare every step with a plain run; full"),

    OWN_CUSTOM("-t, --threads", "N", GROUP_COMPUTING, mtpgen_apply_threads,
               "threads; default: the physical cores allowed"),
    { "--batch, -b, --batch-size", "N", GROUP_COMPUTING, KIND_U32,
      "tokens of a prefill chunk; 512; the text does not change", SESSION(n_batch), 1, 65536 },
    OWN_CHOICE("--moe", "grouped|per-token", GROUP_COMPUTING, moe_mode,
               "read experts once a chunk or once a token; same text"),
    OWN_CHOICE("--device", "auto|cpu|cuda", GROUP_COMPUTING, device,
               "where to compute; auto: the GPU if it can; same text"),
    OWN_CHOICE("--isa", "auto|scalar|avx2|avx512", GROUP_COMPUTING, isa, "instruction set; same text"),
    { "--fast", NULL, GROUP_COMPUTING, KIND_SET,
      "read prompts faster on a GPU, not exactly; the text may differ", SESSION(fast), 0, 0 },

    OWN_SET("--info", GROUP_REPORT, info, "describe the model and its memory plan, then stop"),
    OWN_TEXT("--report", "FILE", GROUP_REPORT, report_path,
             "write ids, acceptance and times to FILE as JSON; to *.html a page"),
    OWN_TEXT("--trace", "FILE", GROUP_REPORT, trace_path,
             "record every step in FILE, for mtptrace"),
    OWN_SET("--trace-logits", GROUP_REPORT, trace_logits, "with the logits of every token"),
    { "--profile", NULL, GROUP_REPORT, KIND_SET,
      "print time and bytes by operation; same text", SESSION(profile), 0, 0 },
    OWN_SET("-v, --verbose", GROUP_REPORT, verbose, "say more on standard error"),
    OWN_SET("-q, --quiet", GROUP_REPORT, quiet, "no closing report, no progress, no notes, no warnings"),
    OWN_SET("-h, --help", GROUP_REPORT, help, "this text"),
    OWN_SET("--version", GROUP_REPORT, version, "version of mtpgen and of its arithmetic"),
};
const size_t mtpgen_n_own_options = sizeof mtpgen_own_options / sizeof mtpgen_own_options[0];

const struct mtpgen_option mtpgen_hidden_options[] = {
    { "--test-flip", "OP:STEP", GROUP_HIDDEN, KIND_TEXT,
      "flip one bit of what an operation gives at a step, for tests of --strict",
      SESSION(test_flip), 0, 0 },
    OWN_SET("--draft-likeliest", GROUP_HIDDEN, draft_likeliest,
            "draft the likeliest tokens, not by the text's noise, for measurement; same text"),
};
const size_t mtpgen_n_hidden_options =
    sizeof mtpgen_hidden_options / sizeof mtpgen_hidden_options[0];

/* ---- pasted from llama.cpp ------------------------------------------------------------------- */

#define HONOURED_TEXT(names, argument, field, text) \
    { names, argument, GROUP_LLAMA, KIND_TEXT, text, AT(field) }
#define HONOURED(names, argument, function, text) \
    { names, argument, GROUP_LLAMA, KIND_CUSTOM, text, .apply = function }
#define HONOURED_SET(names, field, text) { names, NULL, GROUP_LLAMA, KIND_SET, text, AT(field) }
#define HONOURED_CLEAR(names, field, text) { names, NULL, GROUP_LLAMA, KIND_CLEAR, text, AT(field) }
#define NOTED(names, argument, text) { names, argument, GROUP_LLAMA, KIND_NOTED, text, .least = 0 }
#define NEUTRAL(names, value, text) \
    { names, "N", GROUP_LLAMA, KIND_NEUTRAL, text, .neutral = value }
#define REFUSED(names, argument, text) \
    { names, argument, GROUP_LLAMA, KIND_REFUSED, text, .least = 0 }

#define ONE_DEVICE "all of the model runs on one device, which --device chooses"
#define DRAFT_FIXED "--draft N alone sets how many are drafted"
#define DRAFT_SHARES "the draft head shares -t, -c and --kv with the model"
#define OWN_ROPE "positions are encoded as the model file says"

const struct mtpgen_option mtpgen_llama_options[] = {
    HONOURED_TEXT("-md, --model-draft, --spec-draft-model", "FILE", mtp_path, "as --mtp-model"),
    HONOURED("-ctk, --cache-type-k", "TYPE", mtpgen_apply_cache_type,
             "as --kv; f16 or f32, and -ctv must agree"),
    HONOURED("-ctv, --cache-type-v", "TYPE", mtpgen_apply_cache_type,
             "as --kv; f16 or f32, and -ctk must agree"),
    HONOURED_CLEAR("-no-cnv, --no-conversation", chat, "plain completion, which is the default"),
    HONOURED("--samplers", "LIST", mtpgen_apply_samplers,
             "top_k, top_p, min_p, temperature in this order are what runs; others are refused"),
    HONOURED("--spec-type", "TYPE", mtpgen_apply_spec_type,
             "none as --draft 0, draft-mtp drafts; other ways of drafting are refused"),
    HONOURED("--spec-draft-n-max, --draft-max, --draft-n", "N", mtpgen_apply_spec_n_max,
             "as --draft; more than 8 is 8"),
    HONOURED("-rea, --reasoning", "on|off|auto", mtpgen_apply_reasoning,
             "on and auto as --think, off as --no-think"),
    HONOURED("--reasoning-budget", "N", mtpgen_apply_reasoning,
             "-1 as --think, 0 as --no-think, other budgets are refused"),
    HONOURED("--chat-template-kwargs", "JSON", mtpgen_apply_template_kwargs,
             "{\"enable_thinking\": true or false} as --think, --no-think; others are refused"),
    HONOURED_SET("--no-perf", quiet, "as --quiet"),
    HONOURED("-ngl, --gpu-layers, --n-gpu-layers", "N", mtpgen_apply_gpu_layers,
             "0 as --device cpu; any other: all of the model runs on one device, see --device"),

    NOTED("-sm, --split-mode", "MODE", ONE_DEVICE),
    NOTED("-ts, --tensor-split", "LIST", ONE_DEVICE),
    NOTED("-mg, --main-gpu", "N", ONE_DEVICE),
    NOTED("-dev", "LIST", ONE_DEVICE),
    NOTED("-ot, --override-tensor", "LIST", ONE_DEVICE),
    NOTED("-cmoe, --cpu-moe", NULL, ONE_DEVICE),
    NOTED("-ncmoe, --n-cpu-moe", "N", ONE_DEVICE),
    NOTED("-nkvo, --no-kv-offload", NULL, ONE_DEVICE),
    NOTED("--no-op-offload", NULL, ONE_DEVICE),
    NOTED("--no-host", NULL, ONE_DEVICE),
    NOTED("-fit, --fit", "[on|off]", "without -c the context is what fits a GPU; see --info"),
    NOTED("-fa, --flash-attn", "[on|off|auto]", "attention has one definition here"),
    NOTED("-ub, --ubatch-size", "N", "--batch alone sets the chunks of prefill"),
    NOTED("-tb, --threads-batch", "N", "-t sets the threads of prefill and decoding"),
    NOTED("-C, --cpu-mask", "MASK", "use taskset; -t counts the cores allowed"),
    NOTED("--cpu-strict", "[0|1]", "use taskset; -t counts the cores allowed"),
    NOTED("--numa", "TYPE", "use numactl"),
    NOTED("--prio", "N", "use nice"),
    NOTED("--poll", "N", "threads spin for some 50 microseconds, then sleep"),
    NOTED("--no-mmap", NULL, "the file is always mapped"),
    NOTED("--mmap", NULL, "the file is always mapped"),
    NOTED("--mlock", NULL, "pages of the file are not locked"),
    NOTED("-dio, --direct-io", NULL, "the file is always mapped"),
    NOTED("--no-repack", NULL, "weights are used as they lie in the file"),
    NOTED("--check-tensors", NULL, "a file is always checked"),
    NOTED("--warmup, --no-warmup", NULL, "there is no warm-up run"),
    NOTED("--jinja, --no-jinja", NULL, "known templates are rendered exactly, without Jinja"),
    NOTED("--skip-chat-parsing, --no-skip-chat-parsing", NULL, "answers are printed as they come"),
    NOTED("--reasoning-format", "FORMAT", "thinking is printed as the model writes it"),
    NOTED("-st, --single-turn", NULL, "--chat with -p or -f is a single turn"),
    NOTED("-co, --color", "[on|off|auto]", "text is printed without colour"),
    NOTED("--simple-io", NULL, "input and output are simple"),
    NOTED("--no-display-prompt", NULL, "the prompt is never printed"),
    NOTED("--no-escape", NULL, "text is taken as it is unless -e is given"),
    NOTED("--no-context-shift", NULL, "generation ends when the context is full"),
    NOTED("--swa-full", NULL, "these models have no sliding window"),
    NOTED("-kvu, --kv-unified", NULL, "there is one sequence"),
    NOTED("--perf, --show-timings", NULL, "the closing report is the default"),
    NOTED("--no-show-timings", NULL, "--quiet leaves the closing report out"),
    NOTED("--log-disable", NULL, "--quiet says less"),
    NOTED("-lv, --verbosity, --log-verbosity", "N", "--verbose says more, --quiet less"),
    NOTED("--log-colors", "[on|off|auto]", "there are no colours"),
    NOTED("--log-prefix, --log-timestamps, --offline", NULL, "it changes nothing here"),
    NOTED("--spec-draft-n-min, --draft-min, --draft-n-min", "N", DRAFT_FIXED),
    NOTED("--spec-draft-p-min, --draft-p-min", "P", DRAFT_FIXED),
    NOTED("--spec-draft-p-split, --draft-p-split", "P", DRAFT_FIXED),
    NOTED("--spec-draft-ngl, -ngld, --gpu-layers-draft, --n-gpu-layers-draft", "N", ONE_DEVICE),
    NOTED("--spec-draft-device, -devd, --device-draft", "LIST", ONE_DEVICE),
    NOTED("--spec-draft-type-k, -ctkd, --cache-type-k-draft", "TYPE", DRAFT_SHARES),
    NOTED("--spec-draft-type-v, -ctvd, --cache-type-v-draft", "TYPE", DRAFT_SHARES),
    NOTED("--spec-draft-backend-sampling, --no-spec-draft-backend-sampling", NULL,
          "drafts are drawn with the noise of the sampler"),
    NOTED("--spec-draft-cpu-moe, -cmoed, --cpu-moe-draft", NULL, ONE_DEVICE),
    NOTED("-td, --threads-draft", "N", DRAFT_SHARES),
    NOTED("-cd, --ctx-size-draft", "N", DRAFT_SHARES),
    NOTED("--repeat-last-n", "N", "repetition is not penalised"),
    NOTED("--dry-base, --dry-allowed-length, --dry-penalty-last-n", "N",
          "repetition is not penalised"),
    NOTED("--mirostat-lr, --mirostat-ent, --dynatemp-exp, --xtc-threshold", "N",
          "that sampler is not in use"),

    NEUTRAL("--repeat-penalty", 1, "repetition is not penalised; only 1 (off) is accepted"),
    NEUTRAL("--presence-penalty", 0, "repetition is not penalised; only 0 (off) is accepted"),
    NEUTRAL("--frequency-penalty", 0, "repetition is not penalised; only 0 (off) is accepted"),
    NEUTRAL("--dry-multiplier", 0, "repetition is not penalised; only 0 (off) is accepted"),
    NEUTRAL("--typical, --typical-p", 1, "use --top-p or --min-p; only 1 (off) is accepted"),
    NEUTRAL("--top-nsigma, --top-n-sigma", -1, "use --top-k or --min-p; only -1 (off) is accepted"),
    NEUTRAL("--xtc-probability", 0, "use --temp; only 0 (off) is accepted"),
    NEUTRAL("--dynatemp-range", 0, "use --temp; only 0 (off) is accepted"),
    NEUTRAL("--mirostat", 0, "use --top-p or --min-p; only 0 (off) is accepted"),
    NEUTRAL("-np, --parallel", 1, "one text at a time; start mtpgen once more for another"),
    NEUTRAL("--keep", 0, "generation ends when the context is full; raise -c instead"),

    REFUSED("-hf, -hfr, --hf-repo", "REPO", "download the GGUF file and give it with -m FILE"),
    REFUSED("-hff, --hf-file", "FILE", "download the GGUF file and give it with -m FILE"),
    REFUSED("-hfd, -hfrd, --hf-repo-draft", "REPO",
            "download the GGUF file and give it with --mtp-model FILE"),
    REFUSED("-mu, --model-url", "URL", "download the GGUF file and give it with -m FILE"),
    REFUSED("-dr, --docker-repo", "REPO", "download the GGUF file and give it with -m FILE"),
    REFUSED("-mm, --mmproj", "FILE", "text only: leave it out and describe the picture with -p"),
    REFUSED("--image, --audio, --video", "FILE", "text only: give text with -p or -f"),
    REFUSED("--lora, --lora-scaled", "FILE", "merge the adapter into a GGUF file for -m"),
    REFUSED("--control-vector, --control-vector-scaled", "FILE",
            "only the weights given with -m run"),
    REFUSED("--grammar, --grammar-file, -j, --json-schema, -jf, --json-schema-file", "TEXT",
            "output is not constrained; --stop TEXT can end it"),
    REFUSED("-l, --logit-bias", "LIST", "logits are not biased; see --ignore-eos and --stop"),
    REFUSED("--sampler-seq, --sampling-seq", "LETTERS",
            "the order is fixed; see --top-k, --top-p, --min-p, --temp"),
    REFUSED("--override-kv", "LIST", "metadata is taken from the file given with -m"),
    REFUSED("--rope-scaling, --rope-scale, --rope-freq-base, --rope-freq-scale", "X",
            OWN_ROPE ", within -c"),
    REFUSED("--yarn-orig-ctx, --yarn-ext-factor, --yarn-attn-factor, --yarn-beta-slow, "
            "--yarn-beta-fast", "X", OWN_ROPE ", within -c"),
    REFUSED("-gan, --grp-attn-n, -gaw, --grp-attn-w", "N", OWN_ROPE ", within -c"),
    REFUSED("--context-shift", NULL, "generation ends when the context is full; raise -c instead"),
    REFUSED("--prompt-cache", "FILE", "states are kept within a run only; see --chat"),
    REFUSED("--prompt-cache-all, --prompt-cache-ro", NULL,
            "states are kept within a run only; see --chat"),
    REFUSED("-i, --interactive, -if, --interactive-first", NULL, "use --chat"),
    REFUSED("-mli, --multiline-input", NULL, "use --chat -f FILE for a question of several lines"),
    REFUSED("--in-prefix, --in-suffix", "TEXT", "the chat template sets the turns; see --chat"),
    REFUSED("--in-prefix-bos", NULL, "the chat template sets the turns; see --chat"),
    REFUSED("--chat-template-file", "FILE", "use --template chatml"),
    REFUSED("-bf, --binary-file", "FILE", "use -f FILE; any bytes are accepted"),
    REFUSED("-sp, --special", NULL, "control tokens are not printed; see --verbose"),
    REFUSED("--display-prompt, --verbose-prompt", NULL, "the prompt is not printed; see --verbose"),
    REFUSED("--log-file", "FILE", "redirect standard error, 2>FILE; --verbose says more"),
    REFUSED("--list-devices", NULL, "--device cuda takes the first one"),
    REFUSED("--host, --port, --api-key", "X", "there is no server; use -p, -f or --chat"),
    REFUSED("--lookup-cache-static, -lcs, --lookup-cache-dynamic, -lcd", "FILE",
            "drafting by look-up is of the text so far alone; see --draft-source"),
};
const size_t mtpgen_n_llama_options = sizeof mtpgen_llama_options / sizeof mtpgen_llama_options[0];
