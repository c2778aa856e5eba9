#include "mtp.h"

const char *mtp_version(void)
{
    return PACKAGE_VERSION;
}
