"""How agents in retail ask for things: the vocabulary by which a scripted user understands them; see `sentinel_env.understanding`.

Expressions are searched in lower-case text, those of a slot only where the text asks for something.
"""

_METHOD = r"(?:payment|refund|preferred) (?:method|option|destination|account)s?"

PHRASES: dict[str, tuple[str, ...]] = {
    "order": (
        r"\border (?:id|number)s?\b(?!\(?s?\)?(?: (?:for|of) [^.\n]{0,60})? is\b|:? *\(?#)",
        r"\bconfirm the order (?:id|number)",
        r"\bthis is the order\b",
        r"\border id\(s\)",
        r"\b(?:which|what)(?: \w+){0,2} orders?\b",
        r"\b(?:two|all|the) order ids\b",
        r"\bis (?:this|that|#\w+) the (?:correct |right )?order\b",
        r"\border #\w+ (?:the one|correct)\b",
        r"\bdetails about the order\b",
    ),
    "item": (
        r"\b(?:which|what)(?: \w+){0,2} (?:items?|products?|tablet|units)\b",
        r"\bthe (?:specific )?items? (?:you(?! want to exchange to)|you'd|that you|to (?:return|exchange|change|modify))\b",
        r"\bitem\(?s?\)? (?:ids?|to change|to return|to exchange)\b(?!s?:? *\d)",
        r"\bitem ids\b(?!:? *\d)",
        r"\b(?:these are|this is|confirm) (?:all|the only|every)\b",
        r"\b(?:any|are there) (?:other|additional) items\b",
        r"\bwhich (?!orders?\b|payment|refund|method|option|variant|reason|card)(?:[\w-]+ ){1,4}(?:you'd|would you|do you|you) (?:would )?"
        r"(?:like |want |wish |prefer )?(?:to )?(?:return|exchange|modify|change|replace|keep)\b",
        r"\b(?:this|that) (?:be )?the (?:correct |right )?item\b",
        r"\ball (?:of )?the items\b",
        r"\breturning all\b",
        r"\bthis one item\b",
        r"\bevery item\b",
        r"\bonly item change\b",
        r"\bitems to return are\b",
        r"\breturns for all\b",
    ),
    "new_item": (
        r"\b(?:which|what)(?: \w+){0,2} (?:option|variant|version|replacement|color|colour|size|model|configuration)s?\b",
        r"\bnew item\b",
        r"\bnew (?:[\w-]+ ){0,2}(?:option|variant)s?\b",
        r"\bexchange for one of\b",
        r"\bitem you want to exchange to\b",
        r"\b(?:choose|pick|select) (?:another|one|a|an|which) (?:[\w-]+ )?(?:option|variant|item|item_id|of the|configuration|color|size)",
        r"\byour (?:choice|chosen) \(",
        r"\byour (?:chosen|preferred|desired) (?:[\w-]+ ){0,4}(?:configuration|specs|specifications|variant|option|color|size|model)s?\b",
        r"\bto the same\b",
        r"\b(?:option|variant) (?:would you|you'd|you would)\b",
        r"\bdesired (?:option|variant|item)\b",
    ),
    "payment": (
        rf"\b{_METHOD}\b(?! id|: \w+ ?\(?\w*\)?$)",
        r"\b(?:which|what) (?:card|account|payment|method)\b",
        r"\bhow would you like to (?:pay|be refunded|receive the refund)\b",
        r"\bwhere (?:should|would|do|you)\b.{0,40}\b(?:refund|difference)",
        r"\brefund\w*\b.{0,60}\bor\b.{0,40}\b(?:gift card|paypal|credit card|original)",
        r"\brefund (?:sent|go|to go)\b",
    ),
    "reason": (r"\breason\b",),
    "address": (
        r"\b(?:new|full|correct|complete|updated|delivery|shipping) (?:shipping |delivery )?address\b",
        r"\b(?:which|what)(?: \w+)? address\b",
        r"\b(?:exact|full) address\b",
        r"\baddress (?:would you|you'd|you would) like\b",
        r"\bwhere (?:should|would you like|do you want)\b.{0,40}\b(?:ship|deliver|sen[dt])",
        r"\baddress line 1\b",
    ),
    "payment:gift_card": (r"\bgift[ _]?card",),
    "payment:paypal": (r"\bpaypal",),
    "payment:credit_card": (r"\bcredit[ _]?card|\bvisa\b|\bmastercard\b|\bdebit card",),
    "reason:no longer needed": (r"\bno longer need",),
    "reason:ordered by mistake": (r"\bby mistake\b",),
    "tells:inform": (
        r"\b(?:is|are)(?: still| currently)?(?: in)?(?: a)? \"?(?:pending|delivered|processed|available)\b(?! \(item)",
        r"\b(?:one|a) pending order\b",
        r"\byou ordered\b",
        r"\be-?mail we have on file\b",
        r"\bstatus: (?:pending|delivered)",
        r"\bprice difference\b",
        r"\bavailable (?:options|variants)\b",
    ),
    "say:order": ("the order number",),
    "say:item": ("the item's number",),
    "say:new_item": ("exactly which variant",),
    "say:payment": ("which payment method to use",),
    "say:reason": ("a reason",),
    "say:address": ("the address",),
}
"""Slot -> expressions, `slot:value` -> names of the value, `say:slot` -> the customer's words for the slot."""
