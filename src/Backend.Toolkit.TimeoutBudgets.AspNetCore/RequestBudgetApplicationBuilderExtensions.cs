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
            monitor?.OnChange((options, name) =>
            {
                if (string.IsNullOrEmpty(name))
                {
                    inForce.Update(options);
                }
            });

            // A reload may have come before anybody listened.
            inForce.Update(monitor?.CurrentValue ?? new RequestBudgetOptions());
            return new TimeoutBudgetMiddleware(next, inForce).InvokeAsync;
        });
    }
}
