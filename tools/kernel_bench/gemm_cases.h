// The cases of kernel_bench that multiply weights with batches of tokens.
#pragma once

namespace thermocline {

void RegisterGemmCases(int max_threads);

}  // namespace thermocline
