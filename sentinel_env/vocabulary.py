"""What every domain's agents say: how they ask who the customer is, for a yes, for a choice, and how they report, refuse and take leave.

Regular expressions over lower-case text. A domain adds its own, see `Domain.phrases`. Where all of a label's begin with a letter, or all
with a word boundary, they are found several times faster.
"""

_NO_CHANGE = (
    r"(?:double-)?check|look|search|find|help|show|list|send|share|transfer|connect|escalate|review|pull|verify|know|hear|see|explain|tell"
    r"|assist"
)
"""What an agent may offer to do that changes nothing."""

ASKS: dict[str, tuple[str, ...]] = {
    "email": (
        r"\b(?:your|the|account|valid)(?: \w+)? e-?mail\b(?! (?:we have )?on file| instructions| confirmation| will)",
        r"^e-?mail\b",
        r"\be-?mail (?:address|associated|you used)\b",
    ),
    "name": (r"\b(?:first|last|full|legal) name\b", r"\byour name\b", r"\bname (?:and|\+|plus|with) (?:your )?(?:zip|postal)", r"^name\b"),
    "zip": (r"\b(?:zip|post(?:al )?code)\b(?<!-zip)(?<!country, and zip)(?!.*\bcountry\b)",),
    "user": (r"\b(?:your|the) (?:user|customer) (?:id|number|name)\b",),
    "identity": (
        r"\b(?:verify|authenticate|identify) you\b(?!'|r)",
        r"\b(?:verify|authenticate|confirm) (?:your (?:identity|account)|who you are)",
    ),
    "confirm": (
        r"\b(?:reply|respond|answer|say|type|confirm)\b.{0,25}\byes\b",
        r"\byes\"? ?(?:/|or) ?\"?no\b",
        r"\byes\"? to (?:proceed|go ahead|confirm|authori[sz]e|approve)",
        r"\b(?:explicit|your) \"?(?:\w+ )?(?:confirmation|approval|yes|go-ahead|consent)\b",
        rf"\b(?:(?:shall|should) i\b(?! (?:{_NO_CHANGE}|use|choose|select|pick)\b)|(?:may|can) i (?:proceed|go ahead|continue))",
        rf"\b(?:like|want|okay for|ok for) (?:me|us) to (?!{_NO_CHANGE}|(?:proceed|go ahead) with (?:a |the )?transfer)",
        r"\bare you (?:sure|ready|ok|okay|fine with|happy)\b.*\?",
        r"\b(?:(?<!how )would you like|(?<!how )do you want|(?<!do you )want|wish) to (?:proceed|go ahead|continue|confirm)\b"
        r"(?! with (?:a )?transfer|[^?\n]{0,100} or )",
        r"\bdo you (?:confirm|agree|approve|authori[sz]e)\b",
        r"\b(?<!also )(?<!you to )(?<!i can )confirm(?: (?:this|that|these|it|now|below|above))?(?: so i can proceed)?[.!:?)]*$",
        r"\bconfirm (?:if|that|whether)?(?: you|you'd|i) ?(?:would |'d )?(?:like|want|wish|should)?(?: me)?(?: to)? (?:proceed"
        r"|go ahead|cancel|continue)",
        r"\b(?:confirm|know) (?:if|that|whether)\b.{0,30}\b(?:proceed|go ahead)",
        r"\bconfirm: (?!(?:which|what|your|the|that|whether|if)\b)\w",
        r"\bplease confirm (?:the (?:following|above|details|plan)|this)\b",
        r"^confirm the (?:following|above|plan)\b",
        r"\bis (?:this|that|everything|all of this|all this) (?:correct|ok|okay|right|fine|all right|alright)",
        r"\b(?:does|do) (?:this|that|it|these|everything) (?:look|sound|work)",
        r"\b(?<!to )proceed\b(?! with (?:a )?transfer)[^?\n]{0,80}\?",
    ),
    "transfer_offer": (
        r"\b(?:want|like|shall i|should i|prefer)\b.{0,40}\b(?:transfer\w*|connect\w*|escalat\w*|human|representative)\b",
        r"\bi can (?:also )?(?:transfer|connect|escalate|route) you\b",
    ),
    "choice": (
        rf"\bwould you like (?:me )?to (?:{_NO_CHANGE})\b(?!.*\b(?:any other|anything|something)\b)",
        r"\boption (?:a|1)\b[\s\S]{1,300}\boption (?:b|2)\b",
        r"\ba\) .{3,200}\bor \(?b\)",
        r"\bor (?:choose|keep|both|(?:is|are) there (?:anything|something))\b",
        r"\b(?:would you like|do you want|prefer) to:$",
    ),
    "anything_else": (
        r"anything (?:else|more)\b(?<!or is there anything else)",
        r"something (?:else|more)\b(?<!or is there something else)",
        r"any (?:\w+ ){0,4}(?:questions?|requests?|help|assistance|settings|concerns|needs|issues)\b",
        r"further (?:questions|assistance|help|requests)\b",
        r"additional (?:questions|assistance|help|requests)\b",
        r"feel free to (?:ask|let|reach|share)\b",
    ),
}

_ADVERB = r"(?: (?:now|also|already|just|all|both|fully|been|being|successfully)){0,4}"
_PARTICIPLE = r"(?!(?:indeed|need|\w{0,3}ceed|speed)\b)(?:\w{2,20}ed|made|sent|set|put|done|begun|undone|taken care of)\b"
_LOOKED_UP = (
    r"(?:verified|authenticated|located|identified|found|retrieved|confirmed|reviewed|checked|looked|pulled|logged|calculated|compared"
    r"|gathered|searched|tried|attempted|matched|determined)\b"
)
_STATE = (
    r"(?:NOT_DONE|noted|listed|associated|based|required|needed|wanted|allowed|permitted|supported|limited|provided|included|shown|displayed"
    r"|mentioned|interested|specified|linked|tied|attached|expected|used|called|selected|described|offered|received|requested|referenced"
    r"|stated|covered|signed|approved|agreed|asked|shared|planned|considered|preferred|related)\b"
)
_DONE = rf"(?!{_LOOKED_UP}|{_STATE}){_PARTICIPLE}"
"""A participle of a change: not of a state, nor of looking something up. NOT_DONE stands for the domain's own words for a state."""
_SUBJECT = r"(?:(?! (?:will|would|can|may|once|after|when|until|if|that|which)\b)[^,;:?]){1,80}?"
"""The words between "your" and "is cancelled"; what begins a clause of its own is none of them."""
_CHANGED = (
    r"(?:submitted|completed|cancell?ed|updated|changed|processed|initiated|renewed|applied|finali[sz]ed|booked|issued|recorded|refunded)"
)

TELLS: dict[str, tuple[str, ...]] = {
    "transfer": (
        r"being transferred\b",
        r"transferring (?:you|this)\b",
        r"escalating (?:you|this)\b",
        r"connecting you\b",
        r"transferred you\b",
        r"please hold\b",
        r"i'll (?:now )?transfer you\b(?<!, i'll transfer you)",
        r"i will (?:now )?transfer you\b(?<!, i will transfer you)",
    ),
    "done": (
        r"\b(?:has|have|(?:i|we|they)'ve|was|were)(?<!you have)(?<!you were)(?<!no changes were)(?<!ould have)(?<!may have)(?<!might have)"
        rf"{_ADVERB} {_DONE}",
        rf"^(?:it|this|that|both|everything|(?:the|your|all)\b{_SUBJECT})(?: is| are|'s){_ADVERB} {_DONE}",
        rf"\b(?:i|we)(?: just| now| successfully) {_DONE}",
        rf"^(?:i|we) {_DONE}",
        rf"\b(?:is|are) now {_DONE}",
        rf"\bsuccessfully (?!{_LOOKED_UP}){_PARTICIPLE}",
        r"\b(?:all (?:set|done)|taken care of)\b",
        r"\b(?:is|are|it's|that's)(?: now| all)? (?:complete|done|on (?:its|their|the) way|under ?way|in effect|in place)\b",
        rf"^(?:(?!(?:be|to|not|if|when|is|are|was)\b)[\w#]+ ){{0,3}}(?:{_CHANGED}|complete|done)[.:!]?$",
        r"^(?:[\w ]{1,30}, )?(?:done|completed)\b(?!:)",
        r"\bwent (?:through|ahead and)\b",
    ),
    "refusal": (
        r"\bunfortunately\b",
        r"\b(?:i|we)(?:'m| am|'re| are)? (?:can't|cannot|can not|couldn't|could not|unable|not able|won't be able)\b"
        r"(?! (?:to )?(?:find|locate)\b)",
        r"\b(?:is|are|was|were|be) (?:currently )?(?:not|n't) (?:\w+ ){0,2}(?:possible|allowed|permitted|eligible|available|supported)\b",
        r"\b(?:isn't|aren't) (?:\w+ ){0,2}(?:possible|allowed|permitted|eligible|available|supported|shown|exposed|visible)\b",
        r"\b(?:unavailable|out of stock|not in stock|no in-stock|no way to)\b",
        r"\b(?:i|we) (?:don't|do not) have\b",
        r"\bdo(?:es)?(?: not|n't) (?:support|allow|offer|display|have (?:a way|visibility|access)|see any|indicate)",
        r"\b(?:can't|cannot|can not) be \w+ed\b",
        r"\bonly (?:allowed|available|possible|supported|permitted)\b",
    ),
    "inform": (
        r"\bhere(?: (?:are|is) (?:the|your)| is what i found|'s what i (?:found|can|see))\b",
        r"\bincludes\b",
        r"^(?:yes|no),",
        r"\bthere (?:are|is) (?:currently )?(?:\d|only|no|one|two|three|several)",
        r"\byou have (?:one|two|three|\d|a|an|no)\b",
        r"\b(?:id|number) (?:for|of) .{1,60} is\b",
    ),
}
