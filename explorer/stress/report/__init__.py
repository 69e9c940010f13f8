"""Reports of a campaign: a page for people, a JUnit file and a screen of Markdown for a CI.

Reading order: `facts` (all that a report says), `witnesses` (a log of each cause, shrunk and explained), and then the
forms: `page` with `curve`, `junit`, `markdown`.
"""
