/* replay_main.c - runs a fuzz target over files instead of random input.
 *
 * Arguments are files and directories (not searched deeper). With it the corpus is replayed by
 * compilers that have no libFuzzer. Fails when a directory holds no file at all, so that a lost
 * corpus shows.
 */
#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool replay_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    struct stat status;
    if (file == NULL || fstat(fileno(file), &status) != 0) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        if (file != NULL)
            fclose(file);
        return false;
    }
    /* Exactly the size of the file, so that a sanitizer sees the first byte beyond. */
    size_t size = (size_t)status.st_size;
    uint8_t *data = malloc(size > 0 ? size : 1);
    bool whole = data != NULL && fread(data, 1, size, file) == size;
    fclose(file);
    if (whole)
        LLVMFuzzerTestOneInput(data, size);
    else
        fprintf(stderr, "%s: cannot be read\n", path);
    free(data);
    return whole;
}

static bool replay_directory(const char *path, size_t *files)
{
    DIR *directory = opendir(path);
    if (directory == NULL) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        return false;
    }
    bool fine = true;
    size_t before = *files;
    for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
        char name[4096];
        struct stat status;
        int length = snprintf(name, sizeof name, "%s/%s", path, entry->d_name);
        if (length < 0 || (size_t)length >= sizeof name || stat(name, &status) != 0) {
            fine = false;
        } else if (S_ISREG(status.st_mode)) {
            fine = replay_file(name) && fine;
            ++*files;
        }
    }
    closedir(directory);
    if (*files == before) {
        fprintf(stderr, "%s: no files\n", path);
        return false;
    }
    return fine;
}

int main(int argc, char **argv)
{
    size_t files = 0;
    bool fine = argc > 1;
    for (int i = 1; i < argc; i++) {
        struct stat status;
        if (stat(argv[i], &status) == 0 && S_ISDIR(status.st_mode)) {
            fine = replay_directory(argv[i], &files) && fine;
        } else {
            fine = replay_file(argv[i]) && fine;
            files++;
        }
    }
    printf("%zu inputs\n", files);
    return fine ? EXIT_SUCCESS : EXIT_FAILURE;
}
