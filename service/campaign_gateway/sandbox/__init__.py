"""The simulated platform: the Campaign Management public API, with faults that can be switched on.

It shares no code with the gateway, so that it can judge the gateway. Words used in this room:

* *arrival*: one request as the platform saw it, refused or not (`journal`);
* *mark*: the text of `updatedAt`, a version sign that may be compared for equality only (`marks`);
* *row*: a campaign as a list shows it, a smaller projection than by id (`projections`);
* *fault*: a named misbehaviour that applies to the requests it matches (`faults`), or to some ids (`magic`);
* *refusal*: an error answer in one of the documented forms (`answers`).

Start here: `campaign_gateway.sandbox.platform.Sandbox`.
"""
