using System.Diagnostics.Metrics;
using static Backend.Toolkit.Idempotency.PostgreSql.Tests.Stores;

namespace Backend.Toolkit.Idempotency.PostgreSql.Tests;

[Collection("The meter")]
public sealed class TelemetryTests(Database database)
{
    [Fact]
    public async Task Deleted_records_are_counted_by_the_name_of_the_store_also_when_a_listener_throws()
    {
        await using PostgreSqlIdempotencyStore store = database.CreateStore(o => o.Name = "counted");
        await store.BeginAsync(Request());
        await ShiftAsync(store, Retention + TimeSpan.FromMinutes(2));
        long counted = 0;
        using MeterListener listener = new();
        listener.InstrumentPublished = (instrument, it) =>
        {
            if (instrument.Name == "backend.toolkit.idempotency.postgresql.deleted")
            {
                it.EnableMeasurementEvents(instrument);
            }
        };
        listener.SetMeasurementEventCallback<long>((_, measurement, tags, _) =>
        {
            if (tags.ToArray().Contains(new("name", "counted")))
            {
                counted += measurement;
                throw new InvalidOperationException("a bad listener");
            }
        });
        listener.Start();

        int deleted = await store.CleanUpAsync();

        (counted, deleted).Should().Be((1, 1));
    }
}
