using Microsoft.AspNetCore.Builder;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Options;

namespace Backend.Toolkit.TimeoutBudgets.AspNetCore;

/// <summary>Gives each request a timeout budget.</summary>
public static class RequestBudgetApplicationBuilderExtensions
{
    /// <summary>
    /// Gives each request that comes by here a <see cref="TimeoutBudget"/>: the least of what its caller says and what its endpoint, or
    /// <see cref="RequestBudgetOptions.Maximum"/>, allows. Put it after <c>UseExceptionHandler</c> and <c>UseRouting</c>. Without <c>AddTimeoutBudgets</c>
    /// the defaults hold. The clock is the container's <see cref="TimeProvider"/>, if it has one.
    /// </summary>
    /// <param name="app">The application.</param>
    /// <returns>The application.</returns>
    /// <exception cref="OptionsValidationException">The options are invalid, which is thrown when the application starts; the message has all <see cref="RequestBudgetOptions.Problems"/>.</exception>
    public static IApplicationBuilder UseTimeoutBudgets(this IApplicationBuilder app)
    {
        ArgumentNullException.ThrowIfNull(app);
        IServiceProvider services = app.ApplicationServices;

        // When the application starts, all options were validated: bad ones here do not hide those of others.
        return app.Use(next =>
        {
            var monitor = services.GetService<IOptionsMonitor<RequestBudgetOptions>>();
            var inForce = new BudgetsInForce(
                monitor?.CurrentValue ?? new RequestBudgetOptions(), services.GetService<TimeProvider>(), services.GetService<ILogger<TimeoutBudgetMiddleware>>());
            if (monitor is not null)
            {
                Follow(monitor, inForce);
            }

            return new TimeoutBudgetMiddleware(next, inForce).InvokeAsync;
        });
    }

    private static void Follow(IOptionsMonitor<RequestBudgetOptions> monitor, BudgetsInForce inForce)
    {
        var gate = new Lock();
        monitor.OnChange((_, name) =>
        {
            if (string.IsNullOrEmpty(name))
            {
                Take();
            }
        });

        // A reload may have come before anybody listened.
        Take();

        // One after the other, and each what is newest: of two reloads at once, the older must not stay.
        void Take()
        {
            lock (gate)
            {
                inForce.Update(monitor.CurrentValue);
            }
        }
    }
}
