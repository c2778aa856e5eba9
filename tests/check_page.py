#!/usr/bin/env python3
"""check_page.py PAGE [--text FILE] [--prompt FILE] [--json FILE]: looks at a page of mtpgen --report.

The page is well-formed XML, and HTML to a parser of HTML that sees the same elements; it has only elements and
attributes that are known to be harmless; every number with a data-field is that of the JSON report in it; its
tokens and drafts add up to that report's. --text: the tokens are the text of this file. --prompt: so is the
prompt. --json: the JSON report of the same command agrees in all that does not depend on time.
"""
import argparse
import html.parser
import json
import re
import sys
import xml.etree.ElementTree as ElementTree

XHTML = '{http://www.w3.org/1999/xhtml}'
SVG = '{http://www.w3.org/2000/svg}'
ELEMENTS = set('''html head meta title style body header main section h1 h2 h3 p b i s span div dl dt dd code ul li
    table thead tbody tr th td svg text rect path input label details summary pre'''.split())
ATTRIBUTES = set('''lang xmlns charset http-equiv content name class title role viewBox x y width height d id for
    type scope dir preserveAspectRatio data-field'''.split())
POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def demand(holds, sentence):
    if not holds:
        sys.exit(f'{sys.argv[1]}: {sentence}')


class Elements(html.parser.HTMLParser):
    """Elements and their attributes in the order a browser meets them."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def handle_starttag(self, tag, attributes):
        self.seen.append((tag, sorted(name for name, _ in attributes)))

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)


def local(name):
    return name.split('}')[-1]


def check_elements(source, root):
    parser = Elements()
    parser.feed(source)
    parser.close()
    expected = []
    for element in root.iter():
        demand(local(element.tag) in ELEMENTS, f'has an element {element.tag}')
        demand(set(element.attrib) <= ATTRIBUTES, f'{element.tag} has attributes {list(element.attrib)}')
        names = list(element.attrib) + ['xmlns'] * (local(element.tag) in ('html', 'svg'))
        expected.append((local(element.tag), sorted(name.lower() for name in names)))
    demand(parser.seen == expected, 'is something else to a parser of HTML than to one of XML')


def check_offline(source, root):
    head = list(root.find(XHTML + 'head'))
    demand(head[0].attrib == {'charset': 'utf-8'}, 'does not begin with its character set')
    demand(head[1].get('http-equiv') == 'Content-Security-Policy' and head[1].get('content') == POLICY,
           'has no strict content security policy')
    styles = list(root.iter(XHTML + 'style'))
    demand(len(styles) == 1 and not re.search(r'url\(|@import|expression|<', styles[0].text),
           'has not one style, or one that asks for more')
    demand('prefers-color-scheme:dark' in styles[0].text, 'has no dark style')
    controls = [c for c in source if (ord(c) < 32 and c not in '\n\t') or 0x7f <= ord(c) < 0xa0
                or 0x202a <= ord(c) <= 0x202e or 0x2066 <= ord(c) <= 0x2069]
    demand(not controls, f'has control characters {controls}')


def text_of(element):
    return ''.join(element.itertext())


def member(report, path):
    for name in path.split('.'):
        report = report[int(name)] if isinstance(report, list) else report[name]
    return report


def check_numbers(root, report):
    """Every number shown is its field's, rounded as it is shown."""
    seen = set()
    for element in root.iter():
        field = element.get('data-field')
        if field is None:
            continue
        seen.add(field)
        shown, value = text_of(element), member(report, field)
        if value is None:
            demand(not re.search('[0-9]', shown), f'{field} is null, shown as {shown}')
            continue
        if isinstance(value, str):
            demand(shown == value, f'{field} is {value}, shown as {shown}')
            continue
        number = re.match(r'[0-9]+(\.([0-9]+))?', shown)
        demand(number, f'{field} is shown as {shown}')
        value *= 100 if field.startswith('acceptance_by_position.conditional') else 1
        half = 0.5 * 10.0 ** -len(number.group(2) or '') if number.group(2) else 0
        demand(abs(float(number.group(0)) - value) <= half * 1.01 + 1e-3 * (half > 0),
               f'{field} is {value}, shown as {shown}')
    return seen


def wanted_fields(report):
    fields = {'n_tokens', 'steps', 'drafted', 'accepted', 'prompt_tokens', 'digest', 'mean_accepted_length',
              'timing.decode_tok_s', 'timing.prefill_tok_s', 'timing.draft_ms', 'timing.verify_ms',
              'timing.commit_ms'}
    if report['strict']['mode'] != 'off':
        fields |= {'strict.' + name for name in ('prompt_rows_checked', 'rows_checked', 'steps_checked',
                                                 'mismatches')}
    if report['drafted'] > 0:
        fields |= {f'histogram.{i}' for i in range(len(report['histogram']))}
        fields |= {f'acceptance_by_position.conditional.{i}'
                   for i, value in enumerate(report['acceptance_by_position']['conditional']) if value is not None}
        fields |= {f'by_source.{s}.{n}' for s in ('mtp', 'ngram') for n in ('steps', 'drafted', 'accepted')}
        fields |= {f'schedule.fixed_tok_s.{i}' for i, value in enumerate(report['schedule']['fixed_tok_s'])
                   if value is not None}
    return fields


def plain(element):
    """What stands in an element, its marks left out."""
    text = element.text or ''
    for child in element:
        if child.get('class') not in ('x', 'r', 'u', 'c'):
            text += plain(child)
        text += child.tail or ''
    return text


def blocks(root, kind):
    texts = next(e for e in root.iter(XHTML + 'div') if e.get('class') == 'texts')
    return [e for e in texts if e.get('class') == kind]


def check_tokens(root, report):
    count = {'t': 0, 'a': 0, 'r': 0, 'u': 0}
    passes = 0
    for block in blocks(root, 'txt'):
        for step in block:
            demand(step.get('class') in ('s', 's n'), 'has tokens outside a step')
            passes += 'no pass followed' not in step.get('title')
            for token in step:
                count[token.get('class')] += 1
    demand(count['t'] + count['a'] == report['n_tokens'], f'shows {count} of {report["n_tokens"]} tokens')
    demand(count['a'] == report['accepted'], f'shows {count} of {report["accepted"]} accepted drafts')
    demand(count['r'] + count['u'] == report['drafted'] - report['accepted'],
           f'shows {count} of {report["drafted"]} drafts')
    compared = sum(report['acceptance_by_position']['compared'])
    demand(count['a'] + count['r'] == compared, f'shows {count}, {compared} were compared')
    demand(passes == report['steps'], f'shows {passes} of {report["steps"]} steps')


def check_profile(root, report):
    titles = [text_of(h) for h in root.iter(XHTML + 'h2') if text_of(h).startswith('Operations of')]
    if report['profile'] is None:
        demand(titles == [], f'has a profile: {titles}')
        return
    demand(len(titles) == 3, f'shows {titles} of a profile')
    labels = [text_of(t) for t in root.iter(SVG + 'text') if t.get('class') == 'l']
    for phase in report['profile'].values():
        for entry in phase['operations']:
            demand(entry['operation'] in labels, f'lacks the operation {entry["operation"]}')


def same_run(report, other):
    for field in ('tokens', 'steps', 'drafted', 'accepted', 'histogram', 'digest', 'by_source',
                  'acceptance_by_position', 'strict', 'prompt_tokens', 'stop', 'exit_status'):
        demand(report[field] == other[field], f'{field} is not that of the JSON report of the same command')


def read(path):
    with open(path, encoding='utf-8') as file:
        return file.read()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('page')
    for name in ('--text', '--prompt', '--json'):
        parser.add_argument(name)
    arguments = parser.parse_args()
    source = read(arguments.page)
    root = ElementTree.fromstring(source)
    check_elements(source, root)
    check_offline(source, root)
    report = json.loads(text_of(next(e for e in root.iter(XHTML + 'pre') if e.get('id') == 'json')))
    missing = wanted_fields(report) - check_numbers(root, report)
    demand(not missing, f'does not show {sorted(missing)}')
    check_tokens(root, report)
    check_profile(root, report)
    if arguments.text:
        shown = ''.join(plain(block) for block in blocks(root, 'txt'))
        demand(shown == read(arguments.text), f'its text is {shown!r}')
    if arguments.prompt:
        shown = ''.join(plain(block) for block in blocks(root, 'txt prompt'))
        demand(shown == read(arguments.prompt), f'its prompt is {shown!r}')
    if arguments.json:
        same_run(report, json.loads(read(arguments.json)))


main()
