// Every family, in the order in which messages name them: how it is computed, and how it is
// imported. A new one is its file, and its lines here.
#pragma once

#include "runtime/model/families.h"
#include "runtime/model/hf_import.h"

namespace thermocline {

extern const FamilyData kLlamaFamily;
extern const FamilyData kSmolLm3Family;
extern const FamilyData kQwen2Family;
extern const FamilyData kQwen3Family;
extern const FamilyData kGemmaFamily;
extern const FamilyData kGemma2Family;
extern const FamilyData kGemma3Family;
extern const FamilyData kGemma3nFamily;
extern const FamilyData kPhi3Family;
extern const FamilyData kGraniteFamily;
extern const FamilyData kOlmo2Family;
extern const FamilyData kCommandRFamily;
extern const FamilyData kCohere2Family;
extern const FamilyData kStarcoder2Family;
extern const FamilyData kGptNeoXFamily;
extern const FamilyData kGpt2Family;
extern const FamilyData kGlm4Family;
extern const FamilyData kOptFamily;
extern const FamilyData kFalconFamily;
extern const FamilyData kNemotronFamily;
extern const FamilyData kBitNetFamily;
extern const FamilyData kT5GatedFamily;
extern const FamilyData kT5Family;
extern const FamilyData kMiniCpmFamily;
extern const FamilyData kBambooFamily;

inline constexpr const FamilyData* kAllFamilies[] = {
    &kLlamaFamily,  &kSmolLm3Family,  &kQwen2Family,   &kQwen3Family,      &kGemmaFamily,
    &kGemma2Family, &kGemma3Family,   &kGemma3nFamily, &kPhi3Family,       &kGraniteFamily,
    &kOlmo2Family,  &kCommandRFamily, &kCohere2Family, &kStarcoder2Family, &kGptNeoXFamily,
    &kGpt2Family,   &kGlm4Family,     &kOptFamily,     &kFalconFamily,     &kNemotronFamily,
    &kBitNetFamily, &kT5GatedFamily,  &kT5Family,      &kMiniCpmFamily,    &kBambooFamily};

extern const HfImport kLlamaImport;
extern const HfImport kSmolLm3Import;
extern const HfImport kQwen2Import;
extern const HfImport kQwen3Import;
extern const HfImport kGemmaImport;
extern const HfImport kGemma2Import;
extern const HfImport kGemma3Import;
extern const HfImport kPhi3Import;
extern const HfImport kGraniteImport;
extern const HfImport kOlmo2Import;
extern const HfImport kCommandRImport;
extern const HfImport kCohere2Import;
extern const HfImport kStarcoder2Import;
extern const HfImport kGptNeoXImport;
extern const HfImport kGpt2Import;
extern const HfImport kGlm4Import;
extern const HfImport kOptImport;
extern const HfImport kFalconImport;
extern const HfImport kNemotronImport;
extern const HfImport kBitnetImport;
extern const HfImport kGemma3nImport;
extern const HfImport kT5Import;
extern const HfImport kMiniCpmImport;
extern const HfImport kBambooImport;

inline constexpr const HfImport* kAllImports[] = {
    &kLlamaImport,    &kSmolLm3Import, &kQwen2Import,      &kQwen3Import,    &kGemmaImport,
    &kGemma2Import,   &kGemma3Import,  &kPhi3Import,       &kGraniteImport,  &kOlmo2Import,
    &kCommandRImport, &kCohere2Import, &kStarcoder2Import, &kGptNeoXImport,  &kGpt2Import,
    &kGlm4Import,     &kOptImport,     &kFalconImport,     &kNemotronImport, &kBitnetImport,
    &kGemma3nImport,  &kT5Import,      &kMiniCpmImport,    &kBambooImport};

}  // namespace thermocline
