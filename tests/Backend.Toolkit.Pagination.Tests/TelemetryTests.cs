using System.Diagnostics.Metrics;
using System.Reflection;
using System.Runtime.Loader;

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

    [Fact]
    public void A_listener_that_throws_when_it_hears_of_the_meter_does_not_replace_a_refusal()
    {
        // The meter is made once for each load of the assembly.
        var context = new AssemblyLoadContext("another load", isCollectible: true);
        Assembly another = context.LoadFromAssemblyPath(typeof(CursorPaginator).Assembly.Location);
        MethodInfo refused = another.GetType("Backend.Toolkit.Pagination.Telemetry", throwOnError: true)!.GetMethod("CursorRefused")!;
        object reason = Enum.ToObject(another.GetType("Backend.Toolkit.Pagination.InvalidCursorReason", throwOnError: true)!, 0);
        int heard = 0;
        bool isHere = false;
        using var listener = new MeterListener
        {
            InstrumentPublished = (instrument, _) =>
            {
                if (isHere && instrument.Meter.Name == "Backend.Toolkit.Pagination")
                {
                    heard++;
                    throw new InvalidOperationException("a listener's own");
                }
            },
        };
        Paginators.New().Invoking(it => it.Open(Keyset.For<Row>().Unique(row => row.Id), new PageRequest("x"))).Should().Throw<InvalidCursorException>();
        listener.Start();
        isHere = true;

        Action refuse = () => refused.Invoke(null, ["name", reason]);

        refuse.Should().NotThrow();
        heard.Should().Be(1);
        context.Unload();
    }
}
