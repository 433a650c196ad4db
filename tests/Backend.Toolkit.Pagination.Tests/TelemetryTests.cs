using System.Diagnostics.Metrics;

namespace Backend.Toolkit.Pagination.Tests;

[Collection("The meter")]
public sealed class TelemetryTests
{
    [Fact]
    public void A_refusal_is_counted_by_name_and_reason_even_when_a_listener_throws()
    {
        var measured = new List<string>();
        using var listener = new MeterListener
        {
            InstrumentPublished = (instrument, it) =>
            {
                if (instrument.Name == "backend.toolkit.pagination.cursors.refused")
                {
                    it.EnableMeasurementEvents(instrument);
                }
            },
        };
        listener.SetMeasurementEventCallback<long>((_, value, tags, _) =>
        {
            var all = tags.ToArray().ToDictionary(tag => tag.Key, tag => tag.Value);
            if (all["name"] is "telemetry test")
            {
                measured.Add($"{value} {all["reason"]}");
                throw new InvalidOperationException("a listener's own");
            }
        });
        listener.Start();
        CursorPaginator paginator = Paginators.New(o => o.Name = "telemetry test");
        Keyset<Row> keyset = Keyset.For<Row>().Unique(row => row.Id, "id");
        string good = paginator.Seal(keyset, new Row(), PageDirection.Forward);

        paginator.Open(keyset, new PageRequest(good));
        foreach (string bad in new[] { "x", new string('A', 5000), good[..^1] + (good[^1] == 'A' ? 'Q' : 'A') })
        {
            paginator.Invoking(it => it.Open(keyset, new PageRequest(bad))).Should().Throw<InvalidCursorException>();
        }

        paginator.Invoking(it => it.Open(keyset, new PageRequest(good), "other")).Should().Throw<InvalidCursorException>();
        measured.Should().HaveCount(4).And.StartWith(["1 malformed", "1 too_long"]).And.EndWith("1 foreign");
    }
}
