// Products with a few tokens against those with one (docs/few-tokens.md).
#pragma once

namespace thermocline {
void RegisterTokensCases(int max_threads);
}  // namespace thermocline
