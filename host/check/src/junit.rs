//! Results as JUnit XML, the form that CI systems read.

use std::io;

use quick_xml::Writer;
use quick_xml::events::{BytesDecl, BytesText, Event};

use crate::report::{CheckResult, Report};
use crate::task::Outcome;

/// Reports as one JUnit XML document: a suite for each file, and one for each scheme of it; a test case for each check. A
/// warning is a passed test with its text in `system-out`.
///
/// # Errors
/// None but those of a writer into memory, so none in practice.
pub fn junit(reports: &[Report]) -> io::Result<String> {
    let mut writer = Writer::new_with_indent(Vec::new(), b' ', 2);
    writer.write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
    writer
        .create_element("testsuites")
        .with_attribute(("name", "endpoints check-plugin"))
        .write_inner_content(|writer| reports.iter().try_for_each(|report| write_report(writer, report)))?;
    Ok(String::from_utf8_lossy(&writer.into_inner()).into_owned() + "\n")
}

fn write_report(writer: &mut Writer<Vec<u8>>, report: &Report) -> io::Result<()> {
    let file = xml_text(&report.file.file_name().unwrap_or_default().to_string_lossy());
    let mut schemes: Vec<Option<&str>> =
        report.results.iter().map(|result| result.scheme.as_deref()).collect();
    schemes.dedup();
    for scheme in schemes {
        let cases: Vec<_> =
            report.results.iter().filter(|result| result.scheme.as_deref() == scheme).collect();
        let name = scheme.map_or_else(|| file.clone(), |scheme| format!("{file}: {scheme}"));
        write_suite(writer, &name, &cases)?;
    }
    Ok(())
}

fn write_suite(writer: &mut Writer<Vec<u8>>, name: &str, cases: &[&CheckResult]) -> io::Result<()> {
    let count =
        |wanted: fn(&Outcome) -> bool| cases.iter().filter(|case| wanted(&case.outcome)).count().to_string();
    let seconds: f64 = cases.iter().map(|case| case.duration.as_secs_f64()).sum();
    writer
        .create_element("testsuite")
        .with_attributes([
            ("name", name),
            ("tests", &cases.len().to_string()),
            ("failures", &count(|outcome| matches!(outcome, Outcome::Failed(_)))),
            ("errors", "0"),
            ("skipped", &count(|outcome| matches!(outcome, Outcome::Skipped(_)))),
            ("time", &format!("{seconds:.3}")),
        ])
        .write_inner_content(|writer| cases.iter().try_for_each(|case| write_case(writer, name, case)))?;
    Ok(())
}

fn write_case(writer: &mut Writer<Vec<u8>>, suite: &str, case: &CheckResult) -> io::Result<()> {
    let message = xml_text(case.outcome.message().unwrap_or_default());
    let log = xml_text(&case.log);
    let seconds = format!("{:.3}", case.duration.as_secs_f64());
    let element = writer.create_element("testcase").with_attributes([
        ("classname", suite),
        ("name", case.check.name),
        ("time", &seconds),
    ]);
    match &case.outcome {
        Outcome::Passed => element.write_empty()?,
        outcome => element.write_inner_content(|writer| {
            match outcome {
                Outcome::Failed(_) => {
                    let failure = writer.create_element("failure").with_attribute(("message", &*message));
                    failure.write_text_content(BytesText::new(&log))?;
                }
                Outcome::Skipped(_) => {
                    writer.create_element("skipped").with_attribute(("message", &*message)).write_empty()?;
                }
                Outcome::Warned(_) | Outcome::Passed => {
                    writer.create_element("system-out").write_text_content(BytesText::new(&message))?;
                }
            }
            Ok(())
        })?,
    };
    Ok(())
}

/// Text without the control characters that XML 1.0 has no way to write (section 2.2).
fn xml_text(text: &str) -> String {
    let allowed =
        |c: char| matches!(c, '\t' | '\n' | '\r') || c >= ' ' && !matches!(c, '\u{fffe}' | '\u{ffff}');
    text.chars().map(|c| if allowed(c) { c } else { '\u{fffd}' }).collect()
}
