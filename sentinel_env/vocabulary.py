"""What every domain's agents say: how they ask who the customer is, for a yes, for a choice, and how they report, refuse and take leave.

Regular expressions over lower-case text. A domain adds its own, see `Domain.phrases`.
"""

ASKS: dict[str, tuple[str, ...]] = {
    "email": (
        r"\b(?:your|the|account|valid)(?: \w+)? e-?mail\b(?! (?:we have )?on file| instructions| confirmation)",
        r"^e-?mail\b",
        r"\be-?mail (?:address|associated|you used)\b",
    ),
    "name": (r"\b(?:first|last|full) name\b", r"\byour name\b", r"\bname (?:and|\+|plus|with) (?:your )?(?:zip|postal)", r"^name\b"),
    "zip": (r"\bzip\b", r"\bpost(?:al )?code\b"),
    "user": (r"\b(?:your|the) (?:user|customer) (?:id|number|name)\b",),
    "identity": (
        r"\b(?:verify|authenticate|identify) you\b(?!'|r)|\b(?:verify|authenticate|confirm) (?:your (?:identity|account)|who you are)",
    ),
    "confirm": (
        r"\b(?:reply|respond|answer|say|type)\b.{0,25}\byes\b",
        r"\byes ?(?:/|or) ?\"?no\b",
        r"\byes\"? to (?:proceed|go ahead|confirm|authori[sz]e|approve)",
        r"\b(?:shall|should) i\b(?! (?:use|look|check|search|transfer|send))",
        r"\bmay i (?:proceed|go ahead|continue)",
        r"\b(?:would you like|do you want|like|want) (?:me|us) to (?!transfer|check|look|help|find|connect|escalate|show|list|send"
        r"|search|share|proceed with transfer|go ahead with transfer)",
        r"(?<!how )(?<!which )\b(?:would you like|do you want|want|wish) to (?:proceed|go ahead|continue)\b"
        r"(?! with (?:a )?transfer|[^?\n]{0,100} or )",
        r"\bdo you (?:confirm|agree|approve|authori[sz]e)\b",
        r"(?<!also )(?<!you to )\bconfirm(?: (?:this|that|these|it|now|below|above))?(?: so i can proceed)?[.!:?)]*$",
        r"\bconfirm (?:if|that|whether)?(?: you|you'd|i) ?(?:would |'d )?(?:like|want|wish|should)?(?: me)?(?: to)? (?:proceed"
        r"|go ahead|cancel|continue)",
        r"\bconfirm (?:if|that|whether)\b.{0,30}\bproceed",
        r"\blet me know (?:if|whether) you(?:'d| would)? (?:like|want)(?: me)? to (?:proceed|go ahead|continue)",
        r"\bconfirm the (?:following|above|details|return|exchange|change)\b",
        r"\bis (?:this|that|everything|all of this|all this) (?:correct|ok|okay|right|fine|all right|alright)",
        r"\b(?:does|do) (?:this|that|it|these|everything) (?:look|sound|work)",
        r"\b(?:ok|okay|go ahead|confirm|sound good|all right)\?",
        r"(?<!to )\bproceed\?",
        r"\byour (?:explicit )?(?:confirmation|approval|go-ahead|consent)\b",
        r"\bexplicit (?:confirmation|yes|approval)\b",
    ),
    "transfer_offer": (
        r"(?:would you like|do you want|want|like|shall i|should i|prefer)\b.{0,40}\b(?:transfer\w*|connect\w*|escalat\w*|human"
        r"|representative)\b",
        r"\bi can (?:also )?(?:transfer|connect|escalate|route) you\b",
    ),
    "choice": (
        r"\bwould you like to (?!proceed|go ahead|continue|use|confirm|review|exchange for|receive|pay|add anything|make any)",
        r"\bwhich (?:option|of these|of the|one|action|path|way)\b.{0,40}\bproceed with\b",
        r"\blet me know what changes\b",
        r"\bwould you like (?:me to )?(?:check|look|send|search|a copy|help|show|share)",
        r"\bplease confirm which\b",
        r"\boption a\b.{0,60}\bor\b",
    ),
    "anything_else": (
        r"\b(?:anything|something) (?:else|more)\b",
        r"\bany (?:other|further|more|additional) (?:\w+ ){0,4}(?:questions?|requests?|help|assistance|settings|orders?|concerns"
        r"|needs|issues)\b",
        r"\b(?:further|more|additional) (?:questions|assistance|help|requests)\b",
        r"\bif you need (?:anything|any)\b",
        r"\bfeel free to (?:ask|let|reach|share)",
        r"\bif you'd like more details\b",
        r"\bwhat else\b",
        r"\blet me know if you (?:need|have any)\b",
        r"\bif you need any changes\b",
    ),
}

TELLS: dict[str, tuple[str, ...]] = {
    "transfer": (
        r"\byou(?:'re| are)(?: now)? being transferred\b",
        r"\bi(?:'m| am)(?: now)? (?:transferring|escalating|connecting|handing)\b",
        r"\bi(?:'ve| have)(?: now)? (?:transferred|escalated)\b",
        r"\bplease hold\b",
        r"^(?:\w+[,:] )?i(?:'ll| will)(?: now)? (?:transfer|connect|escalate) (?:you|this)\b",
    ),
    "done": (
        r"\b(?:has|have|'ve|was|were)(?: now| also| already)?(?: been)?(?: now)?(?: successfully)? (?:submitted|completed|updated"
        r"|changed|modified|cancell?ed|returned|exchanged"
        r"|refunded|renewed|applied|initiated|placed|made|switched|reverted|issued|booked|added|removed|done|recorded|scheduled"
        r"|extended|saved|reset|activated|processed|requested|set up)\b",
        r"\bsuccessfully (?!verified|authenticated|located|identified|found|retrieved|confirmed|logged)\w+ed\b",
        r"\ball set\b",
        r"\b(?:is|are) (?:complete|completed|done|submitted)\b",
        r"\b(?:is|are) now (?:cancell?ed|updated|renewed|reverted|changed|modified|exchanged|returned)\b",
        r"^(?:done|completed|changed|refunded|updates? completed|(?:return|exchange|request|change|order"
        r"|cancellation)s? (?:submitted|cancell?ed|updated|completed|confirmed))\b",
        r"^i(?: just| now)? (?:cancell?ed|updated|changed|modified|returned|exchanged|renewed|submitted|completed|processed"
        r"|switched|booked)\b",
        r"\b(?:updates confirmed|submitted)\b:?$",
        r"\bresult: success\b",
        r"\bstatus: \w{0,30}_(?:submitted|completed|done)\b",
    ),
    "refusal": (
        r"\bunfortunately\b",
        r"\b(?:i|we)(?:'m| am|'re| are)? (?:can't|cannot|can not|can only|couldn't|could not|unable|not able"
        r"|won't be able to (?!modify|cancel|make|change))",
        r"\b(?:is|are|was|were|be) (?:currently )?(?:not|n't) (?:\w+ ){0,2}(?:possible|allowed|permitted|eligible|available|supported)\b",
        r"\b(?:isn't|aren't) (?:\w+ ){0,2}(?:possible|allowed|permitted|eligible|available|supported|shown|exposed|visible)\b",
        r"\b(?:unavailable|out of stock|not in stock|no in-stock|no way to)\b",
        r"\bdo(?:es)?(?: not|n't) (?:have (?:a way|visibility|access|separate|system|that|those|any|sizing|in-system)|support|allow"
        r"|offer|display|see any|indicate)",
        r"\bcan't be (?:changed|cancelled|exchanged|returned|processed|split)\b",
        r"\bcannot be (?:changed|cancelled|exchanged|returned|processed|split)\b",
        r"\bno modifications can\b",
        r"\bonly (?:exchange|modify|return|cancel|be (?:processed|exchanged|returned|made))\b",
        r"\b(?:i|we) (?:must|have to) (?:decline|refuse|deny)\b",
        r"^sorry,? (?:but )?(?:no|that)\b",
    ),
    "inform": (
        r"\bhere (?:are the available|is what i found)\b|\bhere's what i (?:found|can|see)\b",
        r"\bthere (?:are|is) (?:currently )?(?:\d|only|no|one|two|three|several)",
        r"\byou have (?:one|two|three|\d|a|an|no)\b",
        r"\b(?:id|number) (?:for|of) .{1,60} is\b",
    ),
}
