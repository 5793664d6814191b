"""How agents in retail ask for things: the vocabulary by which a scripted user understands them; see `sentinel_env.understanding`.

Expressions are searched in lower-case text, those of a slot only where the text asks for something.
"""

_METHOD = r"(?:payment|refund|preferred) (?:method|option|destination|account)s?"
_FUNDS = r"(?:gift[ _]?card|paypal|credit[ _]?card|original (?:payment|method|card|form))"
_TO_ACT = r"(?:return|exchange|modify|change|replace|keep|cancel|update|switch)"
_VARIANT = r"(?:option|variant|version|replacement|configuration|color|colour|size|model|material|style|spec|specification|alternative)"


def _asked(noun: str) -> tuple[str, ...]:
    """How a bare noun is asked for: "which order", "the items you want", "the item(s) to return", "confirm the order"."""
    return (
        rf"\b(?:which|what)(?: [\w-]+){{0,2}} {noun}\b(?![ _]ids?)",
        rf"\b(?<!for )(?<!id of )(?<!contains )(?<!with )(?:the|all|any|every|each|other|specific) {noun}(?:\(s\))? (?:that |which )?you\b"
        r"(?! ordered| want to (?:exchange|switch) (?:to|for))",
        rf"\b{noun}(?:\(s\))? (?:to|should|would) (?:be )?{_TO_ACT}",
        rf"\b(?:confirm|is (?:this|that|#\w+)) the (?:correct |right )?{noun}\b(?! (?:status|total))",
    )


PHRASES: dict[str, tuple[str, ...]] = {
    "order": (
        *_asked(r"orders?"),
        r"\border (?:id|number)(?:s|\(s\))?(?!\w)(?!(?: (?:for|of) [^.\n]{0,60})? is\b|:? *\(?#)",
    ),
    "item": (
        *_asked(r"(?:items?|products?|units?)"),
        r"\b(?<!new )(?<!chosen )(?<!one )(?<!which )(?<!by )item(?:\(s\)|'?s)?[ _](?:ids?|numbers?)\b"
        r"(?!s?:? *[\d#]|[^.?]{0,9} you(?:'d)? (?:prefer|like|want|choose)\b(?! to))",
        r"\bare you \w+ing\b",
        r"\b(?:all|every|any other|additional) (?:of )?(?:the |your )?items?\b(?! (?:from|on) )",
        rf"\bwhich (?:(?!orders?\b|{_VARIANT}|payment|refund|method|reason|card|one\b)[\w-]+ ){{1,4}}(?:you'd|would you|do you|you) "
        rf"(?:would )?(?:like |want |wish |prefer )?(?:to )?{_TO_ACT}\b",
    ),
    "new_item": (
        rf"\b(?:which|what)(?: (?!refund|payment)[\w-]+){{0,3}} {_VARIANT}s?\b(?!.{{0,30}}\b(?:prefer|proceed with))",
        r"\bwhich (?:one|of (?:these|those|them)) (?:you'd|would you|do you|you)\b",
        rf"\b(?:new|target|exact|desired|chosen|preferred)(?: [\w-]+){{0,3}} (?:{_VARIANT}s?|item|product|one)\b",
        rf"\bone of (?:the|these|those)(?: [\w-]+){{0,3}} {_VARIANT}s?\b",
        r"\b(?<!an )exchange(?: \w+){0,3} (?:for|to)(?=[.?,:]| \(|$)",
        rf"\b(?:choose|pick|select) (?:one|a|an|another|any|which|from|between) (?:[\w-]+ ){{0,3}}(?:{_VARIANT}s?|item|item_id|of the)\b",
        r"\byour chosen\b",
        r"\bitem[ _]ids?[^.?]{0,9} you(?:'d| would)? (?:prefer|like|want|choose)\b(?! to)",
        r"\bwhich item[ _]id\b",
        rf"\b{_VARIANT} (?:would you|you'd|you would|you want)\b(?! (?:like to )?(?:proceed|prefer))",
    ),
    "payment": (
        rf"\b{_METHOD}\b(?! id|: \w+ ?\(?\w*\)?$)",
        r"\b(?:which|what) (?:card|account|payment|method)\b",
        r"\bhow\b.{0,40}\b(?:pay|refund)",
        r"\bwhere (?:should|would|do|you)\b.{0,40}\b(?:refund|difference)",
        rf"\b{_FUNDS}.{{0,60}}\bor\b.{{0,40}}\b{_FUNDS}",
        rf"\b(?:use|approve using|proceed with|is) (?:of )?(?:the |your |my |an |existing )*{_FUNDS}",
    ),
    "reason": (r"\breasons?\b(?!:? ?\W?(?:no longer|ordered)[^?\n]*$)",),
    "address": (
        r"\b(?:new|full|exact|correct|corrected|complete|updated) (?:\w+ ){0,2}address\b",
        r"\b(?:which|what)(?: \w+){0,2} address\b",
        r"\b(?:provide|share|specify|tell me|give|send|enter) (?:\w+ ){0,3}address\b(?<!mail address)",
        r"\baddress (?:would you|you'd|you would|you) (?:like|want)\b",
        r"\bwhere (?:should|would you like|do you want)\b.{0,40}\b(?:ship|deliver|sen[dt])",
    ),
    "payment:gift_card": (r"\bgift[ _]?card",),
    "payment:paypal": (r"\bpaypal",),
    "payment:credit_card": (r"\bcredit[ _]?card|\bvisa\b|\bmastercard\b|\bdebit card",),
    "reason:no longer needed": (r"\bno longer need",),
    "reason:ordered by mistake": (r"\bby mistake\b",),
    "tells:inform": (
        r"\b(?:is|are|was|were|been)(?: still| currently| already)?(?: in)?(?: a)? \"?(?:pending|delivered|processed|available)\b"
        r"(?! \(item)",
        r"\byou ordered\b",
        r"\be-?mail we have on file\b",
        r"\bstatus: (?:pending|delivered)\b(?! \(item)",
    ),
    "not:done": (r"delivered|shipped|ordered|paid|charged|priced|stocked|arrived",),
    "say:order": ("the order number",),
    "say:item": ("the item's number",),
    "say:new_item": ("exactly which variant",),
    "say:payment": ("which payment method to use",),
    "say:reason": ("a reason",),
    "say:address": ("the address",),
}
"""Slot -> expressions, `slot:value` -> names of the value, `say:slot` -> the customer's words for the slot."""
