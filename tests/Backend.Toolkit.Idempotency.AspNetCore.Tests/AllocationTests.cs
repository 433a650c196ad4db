using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.DependencyInjection;

namespace Backend.Toolkit.Idempotency.AspNetCore.Tests;

/// <remarks>One after the other: whoever listens to the meter makes everybody's calls cost memory.</remarks>
[Collection("The meter")]
public sealed class AllocationTests
{
    [Theory]
    [InlineData("POST", false)]
    [InlineData("POST", true)]
    [InlineData("GET", true)]
    public void A_request_without_a_key_costs_no_memory(string method, bool isProtected)
    {
        RequestDelegate pipeline = Build();
        var context = new DefaultHttpContext { Request = { Method = method } };
        context.SetEndpoint(Endpoint(isProtected));

        long allocated = Measure(() =>
        {
            if (!pipeline(context).IsCompletedSuccessfully)
            {
                throw new InvalidOperationException("The request has not completed.");
            }
        });
        allocated.Should().Be(0);
    }

    private static Endpoint Endpoint(bool isProtected) =>
        new(
            static context =>
            {
                RequestIdempotency.ThrowIfNotProtected(context, context.GetEndpoint()!.Metadata.GetMetadata<IdempotentAttribute>(), "endpoint");
                return Task.CompletedTask;
            },
            new EndpointMetadataCollection(isProtected ? [new IdempotentAttribute("orders") { KeyRequired = false }] : []),
            "endpoint");

    private static RequestDelegate Build()
    {
        ServiceProvider services = new ServiceCollection().AddLogging().AddIdempotency("orders").AddHttpIdempotency(o => o.AllowAnonymous = true).BuildServiceProvider();
        var app = new ApplicationBuilder(services);
        app.UseIdempotency();
        app.Run(static context => context.GetEndpoint()!.RequestDelegate!(context));
        return app.Build();
    }

    private static long Measure(Action action)
    {
        for (int i = 0; i < 100; i++)
        {
            action();
        }

        long least = long.MaxValue;
        for (int round = 0; round < 5; round++)
        {
            long before = GC.GetAllocatedBytesForCurrentThread();
            for (int i = 0; i < 100; i++)
            {
                action();
            }

            least = Math.Min(least, (GC.GetAllocatedBytesForCurrentThread() - before) / 100);
        }

        return least;
    }
}

/// <summary>Tests that turn telemetry on, or that need it off, do not run beside each other.</summary>
[CollectionDefinition("The meter", DisableParallelization = true)]
public sealed class TheMeter;
