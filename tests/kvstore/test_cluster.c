#include "tests/kvstore/suites.h"
Suite *ctki_suite_kv_cluster (void)
{
    return suite_create ("cluster");
}
